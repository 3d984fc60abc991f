// Readers' notes on features: kept by the browser under viewer, SAE and feature, and exported as JSON.

class Notes {
  constructor(meta) {
    this.meta = meta;
    // Parts are encoded, so that no name can be taken for two.
    this.prefix = ['saejax-viewer', meta.run, meta.name].map(encode).join('/') + '/';
    this.texts = new Map();
    this.trouble = '';
    this.listeners = [];
    try {
      for (let i = 0; i < localStorage.length; i++) this.read(localStorage.key(i));
    } catch (error) {
      this.fail(error);
    }
    // Another window with the same page has changed a note.
    addEventListener('storage', (event) => {
      if (event.key?.startsWith(this.prefix)) {
        this.read(event.key);
        this.tell();
      }
    });
  }

  read(key) {
    if (!key.startsWith(this.prefix)) return;
    const feature = Number(key.slice(this.prefix.length));
    const text = localStorage.getItem(key);
    if (text) this.texts.set(feature, text);
    else this.texts.delete(feature);
  }

  fail(error) {
    const why = `This browser does not keep notes here (${error.name}).`;
    this.trouble = `${why} Export them before you close the page.`;
  }

  tell() {
    for (const listener of this.listeners) listener();
  }

  get(feature) {
    return this.texts.get(feature) ?? '';
  }

  set(feature, text) {
    if (text.trim()) this.texts.set(feature, text);
    else this.texts.delete(feature);
    try {
      if (text.trim()) localStorage.setItem(this.prefix + feature, text);
      else localStorage.removeItem(this.prefix + feature);
      this.trouble = '';
    } catch (error) {
      this.fail(error);
    }
    this.tell();
  }

  export(labels) {
    const features = [...this.texts.keys()].sort((a, b) => a - b);
    const notes = features.map((feature) => {
      const label = labels.get(feature);
      const known = label && { label: label.text ?? 'POLYSEMANTIC', labeller: label.labeller };
      return { feature, note: this.texts.get(feature), ...known };
    });
    return { format: 'saejax notes', version: 1, run: this.meta.run, sae: this.meta.name, notes };
  }

  // Takes over the notes of an export; a note that is there already and differs is left as it is.
  takeOver(text) {
    const { format, sae, notes } = JSON.parse(text) ?? {};
    if (format !== 'saejax notes' || !Array.isArray(notes))
      throw new Error('it holds no notes of this viewer');
    if (sae !== this.meta.name) throw new Error(`its notes are on ${sae}`);
    const good = ({ feature, note }) =>
      Number.isInteger(feature) &&
      feature >= 0 &&
      feature < this.meta.latents &&
      typeof note === 'string';
    if (!notes.every((entry) => entry && good(entry)))
      throw new Error('a note in it has no feature or no text');
    const differing = notes.filter(
      ({ feature, note }) => this.get(feature) && this.get(feature) !== note,
    );
    const taken = notes.filter((entry) => !differing.includes(entry));
    for (const { feature, note } of taken) this.set(feature, note);
    return { taken: taken.length, left: differing.length };
  }
}

// Half of a surrogate pair has no encoding: its sign stands for it.
function encode(part) {
  return encodeURIComponent(part.toWellFormed?.() ?? part.replace(/\p{Cs}/gu, '\ufffd'));
}

function download(name, value) {
  const address = URL.createObjectURL(
    new Blob([JSON.stringify(value, null, 1)], { type: 'application/json' }),
  );
  element('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
