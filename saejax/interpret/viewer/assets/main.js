// The page: what the address asks for is shown; keys, buttons and links change the address.

const main = document.getElementById('feature');
const narrow = matchMedia('(max-width: 860px)');

class Viewer {
  constructor(data) {
    this.data = data;
    this.notes = new Notes(data.meta);
    this.wanted = -1;
    this.about();
    this.list = new List(data, this.notes, (feature) => this.go(feature));
    this.noteFiles();
    hints(data, main);
    addEventListener('hashchange', () => this.follow());
    addEventListener('keydown', (event) => this.key(event));
    main.addEventListener('click', (event) => {
      const by = event.target.closest('[data-step]')?.dataset.step;
      if (by) this.step(Number(by));
    });
    const button = document.getElementById('show-list');
    button.addEventListener('click', () =>
      this.drawer(button.getAttribute('aria-expanded') !== 'true'),
    );
  }

  about() {
    const { meta } = this.data;
    document.getElementById('sae').textContent = meta.name;
    document.getElementById('size').textContent =
      `${whole(meta.latents)} features, ${whole(meta.rows)} tokens of text`;
    document.getElementById('study').textContent = [meta.title, meta.note].filter(Boolean).join('. ');
    const pairs = meta.coords.map(([name, value]) =>
      element('div', {}, element('dt', {}, name), element('dd', {}, value)),
    );
    document.getElementById('coords').append(...pairs);
    document.getElementById('reading').textContent =
      `A feature is a latent of this sparse autoencoder. Density is the share of the ${whole(meta.rows)} ` +
      `tokens (${whole(meta.sequences)} sequences) on which it is above 0; a dead one is never above ` +
      `${number(meta.deadThreshold)}. Shades of tokens go from 0 to the largest activation of the ` +
      `feature; around the firing token they are rounded to ${meta.coarse}ths of it. Line ends are shown ` +
      'as ↵, tabs as ⇥, spaces at the ends of a token that stands alone as ·.';
  }

  noteFiles() {
    const said = document.getElementById('notes-said');
    const { notes, data } = this;
    const say = (text) => (said.textContent = [text, notes.trouble].filter(Boolean).join(' '));
    say('');
    notes.listeners.push(() => say(''));
    document.getElementById('export').addEventListener('click', () => {
      const all = notes.export(data.labels);
      if (all.notes.length) download(`notes-${data.meta.name}.json`, all);
      say(all.notes.length ? `${whole(all.notes.length)} exported.` : 'There are no notes to export.');
    });
    const file = document.getElementById('file');
    document.getElementById('import').addEventListener('click', () => file.click());
    file.addEventListener('change', async () => {
      if (!file.files.length) return;
      try {
        const { taken, left } = notes.takeOver(await file.files[0].text());
        await this.show(this.wanted, true);
        say(`${whole(taken)} imported${left ? `, ${whole(left)} left as they are here` : ''}.`);
      } catch (error) {
        say(`That file was not taken: ${error.message}.`);
      }
      file.value = '';
    });
  }

  // Shows what the address asks for.
  follow() {
    clearTimeout(this.pending);
    const asked = location.hash.slice(1);
    const [, digits] = /^feature=(\d+)$/.exec(asked) ?? [];
    const most = this.data.meta.latents - 1;
    if (!asked) this.show(this.list.shown[0]);
    else if (digits !== undefined && Number(digits) <= most) this.show(Number(digits));
    else this.refuse(asked, most);
  }

  refuse(asked, most) {
    this.wanted = -1;
    this.list.select(-1);
    document.title = this.data.meta.name;
    main.replaceChildren(
      element(
        'p',
        { class: 'warn', role: 'alert' },
        'The address asks for ',
        element('bdi', { class: 'chip' }, visible(asked)),
        `. Allowed is feature=N with N from 0 to ${most}.`,
      ),
    );
  }

  go(feature) {
    clearTimeout(this.pending);
    location.hash = `feature=${feature}`;
    this.show(feature);
    this.drawer(false);
  }

  // Browsers refuse an address that changes many times a second, as it would while a key is held down.
  step(by) {
    const feature = this.list.beside(by);
    if (feature === null) return;
    this.show(feature);
    clearTimeout(this.pending);
    this.pending = setTimeout(() => (location.hash = `feature=${feature}`), 150);
  }

  async show(feature, again = false) {
    if (feature === this.wanted && !again) return;
    this.wanted = feature;
    this.list.select(feature);
    try {
      const details = await this.data.details(feature);
      // Meanwhile another may have been asked for.
      if (feature !== this.wanted) return;
      const parts = featureView(this.data, this.notes, feature, details);
      main.replaceChildren(...parts);
      main.scrollTop = 0;
      document.title = `#${feature} - ${this.data.meta.name}`;
    } catch (error) {
      fail(error);
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest('input:not([type=checkbox]), textarea, select, [contenteditable]')) return;
    const inList = event.target.id === 'list';
    const steps = {
      j: 1,
      ArrowRight: 1,
      k: -1,
      ArrowLeft: -1,
      ...(inList && { ArrowDown: 1, ArrowUp: -1 }),
    };
    if (event.key in steps) this.step(steps[event.key]);
    else if (event.key === '/') this.focus('search');
    else if (event.key === 'n') this.focus('note');
    else return;
    event.preventDefault();
  }

  focus(id) {
    if (id === 'search') this.drawer(true);
    document.getElementById(id)?.focus();
  }

  // In a narrow window the list lies over the feature.
  drawer(open) {
    if (!narrow.matches && open) return;
    document.body.classList.toggle('list-open', open);
    document.getElementById('show-list').setAttribute('aria-expanded', String(open));
  }
}

function fail(error) {
  main.replaceChildren(element('p', { class: 'warn', role: 'alert' }, error.message));
}

Data.open().then((data) => new Viewer(data).follow(), fail);
