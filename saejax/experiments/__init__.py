"""One module a study: flags -> config -> library -> report."""
