// The list of all features: searched, filtered, sorted. Only the rows in sight are in the page.

const ROW = 52;
const SORTS = [
  ['selectivity', 'selectivity', -1],
  ['density', 'density', -1],
  ['highest', 'max activation', -1],
  ['mean', 'mean activation', -1],
  ['label', 'label', 1],
  ['number', 'number', 1],
];
const FILTERS = ['all', 'alive', 'dead', 'labelled', 'polysemantic', 'with a note'];

class List {
  constructor(data, notes, open) {
    Object.assign(this, {
      data,
      notes,
      open,
      current: -1,
      sort: 'selectivity',
      direction: -1,
      orders: new Map(),
    });
    this.filter = 'all';
    this.query = '';
    this.box = document.getElementById('list');
    this.rows = document.getElementById('rows');
    this.lowered = data.vocabulary.map((text) => text.toLowerCase());
    this.names = new Map(
      [...data.labels].map(([i, label]) => [i, (label.text ?? 'POLYSEMANTIC').toLowerCase()]),
    );
    this.controls();
    this.box.addEventListener('scroll', () => this.draw(), { passive: true });
    this.box.addEventListener('click', (event) => {
      const row = event.target.closest('[role=option]');
      if (row) open(Number(row.dataset.feature));
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.update();
  }

  controls() {
    const sort = document.getElementById('sort');
    sort.append(...SORTS.map(([value, text]) => element('option', { value }, text)));
    sort.value = this.sort;
    sort.addEventListener('change', () => {
      this.sort = sort.value;
      this.direction = SORTS.find(([name]) => name === this.sort)[2];
      this.update();
    });
    document.getElementById('direction').addEventListener('click', () => {
      this.direction = -this.direction;
      this.update();
    });
    const filter = document.getElementById('filter');
    filter.append(...FILTERS.map((value) => element('option', { value }, value)));
    filter.addEventListener('change', () => {
      this.filter = filter.value;
      this.update();
    });
    this.counts(filter);
    this.notes.listeners.push(
      () => this.counts(filter),
      () => this.draw(),
    );
    const search = document.getElementById('search');
    search.addEventListener('input', () => {
      this.query = search.value;
      this.update();
    });
    search.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') search.blur();
      if (event.key === 'Enter' && this.shown.length) this.open(this.best());
    });
  }

  counts(filter) {
    FILTERS.forEach((name, i) => {
      const holds = this.holds(name);
      let n = 0;
      for (let f = 0; f < this.data.meta.latents; f++) n += holds(f);
      filter.options[i].textContent = `${name} (${whole(n)})`;
    });
  }

  holds(filter) {
    const { dead, labels } = this.data;
    return {
      all: () => true,
      alive: (f) => !dead[f],
      dead: (f) => dead[f] === 1,
      labelled: (f) => (labels.get(f)?.text ?? null) !== null,
      polysemantic: (f) => labels.get(f)?.text === null,
      'with a note': (f) => this.notes.get(f) !== '',
    }[filter];
  }

  // All features in the order of a column. What has no value stands last, whichever way they go.
  order() {
    const key = `${this.sort} ${this.direction}`;
    if (!this.orders.has(key)) {
      const [values, sign] = [this.values(), this.direction];
      const order = Uint32Array.from(values, (_, i) => i);
      const none = (v) => v === null || Number.isNaN(v);
      order.sort((a, b) => {
        const [x, y] = [values[a], values[b]];
        if (none(x) || none(y)) return none(x) - none(y) || a - b;
        return (x < y ? -sign : x > y ? sign : 0) || a - b;
      });
      this.orders.set(key, order);
    }
    return this.orders.get(key);
  }

  values() {
    const { data } = this;
    const all = Array.from({ length: data.meta.latents }, (_, i) => i);
    if (this.sort === 'number') return all;
    if (this.sort === 'density') return data.firings;
    if (this.sort === 'label') return all.map((i) => this.names.get(i) ?? null);
    return data[this.sort];
  }

  // Whether a feature is what the search asks for: its number, label, note, or one of its top tokens.
  matcher() {
    const asked = byteless(this.query).toLowerCase();
    const words = asked.trim();
    if (!asked) return () => true;
    const digits = words.replace(/^#/, '').replaceAll(',', '');
    const isNumber = /^\d+$/.test(digits);
    // A space alone asks for tokens with a space; around a word it is part of the token.
    const found = new Uint8Array(this.lowered.length);
    this.lowered.forEach((text, id) => (found[id] = text.includes(asked)));
    const { firing, promotes } = this.data.tops;
    const { firing: n, promotes: m } = this.data.topCounts;
    const among = (ids, f, each) => {
      for (let i = f * each; i < (f + 1) * each; i++) if (found[ids[i]]) return true;
      return false;
    };
    return (f) =>
      (isNumber && String(f).startsWith(digits)) ||
      (words && this.names.get(f)?.includes(words)) ||
      (words && this.notes.get(f).toLowerCase().includes(words)) ||
      among(firing, f, n) ||
      among(promotes, f, m);
  }

  update() {
    const [holds, matches] = [this.holds(this.filter), this.matcher()];
    this.shown = this.order().filter((f) => holds(f) && matches(f));
    this.places = new Int32Array(this.data.meta.latents).fill(-1);
    this.shown.forEach((f, place) => (this.places[f] = place));
    const total = whole(this.data.meta.latents);
    document.getElementById('count').textContent = this.shown.length
      ? `${whole(this.shown.length)} of ${total} features`
      : `None of ${total} features: nothing matches the search and the filter.`;
    const up = this.direction > 0;
    const button = document.getElementById('direction');
    button.textContent = up ? '↑ ascending' : '↓ descending';
    button.setAttribute('aria-label', `Order: ${up ? 'ascending' : 'descending'}`);
    this.rows.style.height = `${this.shown.length * ROW}px`;
    this.box.scrollTop = 0;
    this.draw();
  }

  // The feature that Enter opens: the one whose number was typed, or else the first.
  best() {
    const typed = Number(this.query.trim().replace(/^#/, '').replaceAll(',', '') || NaN);
    return this.places[typed] >= 0 ? typed : this.shown[0];
  }

  // The one before or behind in the list, null at its ends.
  beside(step) {
    const place = this.places[this.current] ?? -1;
    const next = place < 0 ? (step > 0 ? 0 : this.shown.length - 1) : place + step;
    return this.shown[next] ?? null;
  }

  // Marks a feature, and scrolls to it: by a row where it is near, else so that it stands in the middle.
  select(feature) {
    this.current = feature;
    const [top, height] = [this.box.scrollTop, this.box.clientHeight];
    const [from, to] = [this.places[feature] * ROW, (this.places[feature] + 1) * ROW];
    if (from >= 0 && (from < top || to > top + height)) {
      const near = Math.abs(from - top) < 2 * height;
      if (!near) this.box.scrollTop = from - height / 2;
      else this.box.scrollTop = from < top ? from : to - height;
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 4);
    const end = Math.min(
      this.shown.length,
      Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + 4,
    );
    const made = [];
    for (let place = first; place < end; place++) made.push(this.row(this.shown[place], place));
    this.rows.replaceChildren(...made);
    const active = this.places[this.current] >= first && this.places[this.current] < end;
    if (active) this.box.setAttribute('aria-activedescendant', `row-${this.current}`);
    else this.box.removeAttribute('aria-activedescendant');
  }

  row(feature, place) {
    const { data } = this;
    const tokens = [...data.top('firing', feature)].map((id) => chip(data.vocabulary[id]));
    const row = element(
      'div',
      {
        role: 'option',
        id: `row-${feature}`,
        'data-feature': feature,
        class: 'row',
        'aria-selected': String(feature === this.current),
        'aria-setsize': this.shown.length,
        'aria-posinset': place + 1,
      },
      element('span', { class: 'number' }, `#${feature}`),
      data.labels.has(feature) ? nameOf(data, feature) : this.sizes(feature),
      element('span', { class: 'value' }, this.value(feature)),
      element(
        'span',
        { class: 'tops' },
        ...(tokens.length ? tokens : [data.dead[feature] ? '' : 'no contexts']),
      ),
      element(
        'span',
        { class: 'marks' },
        data.dead[feature] ? element('span', { class: 'tag dead' }, 'dead') : '',
        this.notes.get(feature) ? element('span', { title: 'has a note' }, '✎') : '',
      ),
    );
    row.style.transform = `translateY(${place * ROW}px)`;
    return row;
  }

  // In place of a name, where there is none.
  sizes(feature) {
    const density = percent(this.data.density(feature));
    const highest = number(this.data.highest[feature], 3);
    return element('span', { class: 'name muted' }, `${density} of tokens, max ${highest}`);
  }

  value(feature) {
    const column = {
      selectivity: this.data.selectivity,
      highest: this.data.highest,
      mean: this.data.mean,
    }[this.sort];
    return column ? number(column[feature], 3) : percent(this.data.density(feature));
  }
}

// A feature's label, or that it has no one theme, or that it has no label.
function nameOf(data, feature) {
  const label = data.labels.get(feature);
  if (!label) return element('span', { class: 'name muted' }, 'no label');
  if (label.text === null)
    return element('span', { class: 'name' }, element('span', { class: 'tag poly' }, 'POLYSEMANTIC'));
  return element('bdi', { class: 'name' }, visible(label.text));
}
