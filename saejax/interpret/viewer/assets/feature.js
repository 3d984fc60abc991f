// All that is shown of one feature.

let logCounts = false;

function featureView(data, notes, feature, details) {
  return [
    heading(data, feature),
    data.dead[feature] ? deadNotice(data, feature) : null,
    element(
      'div',
      { class: 'cards' },
      activationCard(data, feature, details),
      ...effectCards(data, details),
    ),
    element(
      'div',
      { class: 'below' },
      contexts(data, feature, details),
      element(
        'div',
        { class: 'aside' },
        noteCard(data, notes, feature),
        ...relatedCards(data, details),
      ),
    ),
  ].filter((part) => part !== null);
}

function heading(data, feature) {
  const label = data.labels.get(feature);
  const stats = [
    ['density', percent(data.density(feature)), 'share of tokens on which it is active'],
    ['firings', whole(data.firings[feature]), `tokens of ${whole(data.meta.rows)}`],
    ['max', number(data.highest[feature]), 'largest activation'],
    [
      'mean',
      data.firings[feature] ? number(data.mean[feature]) : '–',
      'over the tokens on which it is active',
    ],
    [
      'selectivity',
      number(data.selectivity[feature]),
      'mean / ln(firings + 1); – where it fires too seldom to judge',
    ],
  ];
  const step = (text, name, by) =>
    element('button', { type: 'button', 'data-step': by, title: name, 'aria-label': name }, text);
  return element(
    'div',
    { class: 'heading' },
    element('h2', {}, element('span', { class: 'number' }, `#${feature}`), ' ', nameOf(data, feature)),
    element('span', { class: 'steps' }, step('‹', 'Previous (k)', -1), step('›', 'Next (j)', 1)),
    label
      ? element('p', { class: 'muted by' }, 'labelled by ', element('bdi', {}, visible(label.labeller)))
      : null,
    element(
      'dl',
      { class: 'stats' },
      ...stats.map(([name, value, title]) =>
        element('div', { title }, element('dt', {}, name), element('dd', {}, value)),
      ),
    ),
  );
}

function deadNotice(data, feature) {
  const highest = data.highest[feature];
  const here =
    highest > 0
      ? `Its highest activation on this text is ${number(highest, 3)}.`
      : 'It is not active anywhere on this text.';
  return element(
    'p',
    { class: 'warn dead-notice' },
    element('strong', {}, `Dead: never above ${number(data.meta.deadThreshold)}.`),
    ` ${here}`,
  );
}

function card(title, ...content) {
  return element('section', { class: 'card' }, element('h3', {}, title), ...content);
}

function activationCard(data, feature, details) {
  const [highest, firings] = [data.highest[feature], data.firings[feature]];
  const title = `Activations, density ${percent(data.density(feature))}`;
  if (!details.histogram.some((n) => n > 0)) {
    return card(
      title,
      element('p', { class: 'muted' }, 'There are no activations above 0 on this text.'),
    );
  }
  const draw = () =>
    histogram(details.histogram, 0, highest, {
      label: `Histogram of ${whole(firings)} activations above 0, up to ${number(highest)}`,
      unit: 'tokens',
      log: logCounts,
      colour: (value) => ({ kind: 'heat', strength: 0.25 + (0.75 * value) / highest }),
    });
  const box = element('input', { type: 'checkbox' });
  box.checked = logCounts;
  const made = card(
    title,
    draw(),
    element('p', { class: 'under' }, 'activation above 0; tokens', element('label', {}, box, ' log')),
  );
  box.addEventListener('change', () => {
    logCounts = box.checked;
    made.querySelector('svg').replaceWith(draw());
  });
  return made;
}

function effectCards(data, details) {
  const [low, high] = details.span;
  const chart = details.changes.some((n) => n > 0)
    ? histogram(details.changes, low, high, {
        label: `Histogram of the changes of all logits, from ${number(low)} to ${number(high)}`,
        unit: 'tokens of the vocabulary',
        colour: (value) => ({ kind: value < 0 ? 'loss' : 'gain' }),
      })
    : element('p', { class: 'muted' }, 'Not measured.');
  const list = (title, ids, values, kind) =>
    element(
      'div',
      {},
      element('h4', {}, title),
      element(
        'ol',
        { class: `tokens ${kind}` },
        ...Array.from(ids, (id, i) =>
          element(
            'li',
            {},
            chip(data.vocabulary[id]),
            element('span', {}, (values[i] > 0 ? '+' : '') + number(values[i], 3)),
          ),
        ),
      ),
    );
  return [
    card(
      'Effect on next-token logits',
      chart,
      element('p', { class: 'under' }, 'logits beside the mean token, unscaled; tokens'),
    ),
    element(
      'section',
      { class: 'card pair' },
      list('Promoted', details.promoted, details.gains, 'gain'),
      list('Suppressed', details.suppressed, details.losses, 'loss'),
    ),
  ];
}

function relatedCards(data, details) {
  const table = (title, about, latents, values) => {
    const rows = Array.from(latents, (other, i) =>
      other < 0 ? null : relatedRow(data, other, values[i]),
    );
    const known = rows.filter((row) => row !== null);
    const none = element('p', { class: 'muted' }, 'None.');
    return card(
      title,
      element('p', { class: 'under' }, about),
      known.length ? element('ol', { class: 'related' }, ...known) : none,
    );
  };
  const others = data.meta.elsewhere.map((name, i) =>
    element(
      'li',
      {},
      element(
        'a',
        { href: `${name}.html#feature=${details.elsewhere[i]}` },
        element('span', { class: 'number' }, `#${details.elsewhere[i]}`),
        ` ${name}`,
      ),
      meter(details.mcs[i]),
    ),
  );
  return [
    table('Correlated features', 'Pearson, over all tokens', details.correlated, details.correlation),
    table('Nearest decoder rows', 'cosine, in this SAE', details.neighbours, details.cosine),
    others.length
      ? card(
          'In the other SAEs',
          element('p', { class: 'under' }, 'closest decoder row and its cosine (MCS)'),
          element('ol', { class: 'related elsewhere' }, ...others),
        )
      : null,
  ].filter((part) => part !== null);
}

function relatedRow(data, other, value) {
  const label = data.labels.get(other);
  const name = label?.text
    ? element('bdi', {}, visible(label.text))
    : element(
        'span',
        { class: 'tops' },
        ...Array.from(data.top('firing', other).subarray(0, 4), (id) => chip(data.vocabulary[id])),
      );
  const link = element(
    'a',
    { href: `#feature=${other}` },
    element('span', { class: 'number' }, `#${other}`),
    ' ',
    name,
  );
  return element('li', {}, link, meter(value));
}

function meter(value) {
  const made = element('span', { class: 'meter' }, number(value, 3));
  made.style.setProperty('--a', Math.min(Math.abs(value), 1).toFixed(3));
  return made;
}

function noteCard(data, notes, feature) {
  const area = element('textarea', { id: 'note', rows: 3, 'aria-describedby': 'note-said' });
  area.value = notes.get(feature);
  const said = element('p', { id: 'note-said', class: 'under', role: 'status' });
  const say = (done) => (said.textContent = notes.trouble || done);
  say('Kept in this browser.');
  area.addEventListener('input', () => {
    notes.set(feature, area.value);
    say(area.value.trim() ? 'Kept in this browser.' : 'No note.');
  });
  return element(
    'section',
    { class: 'card' },
    element('h3', {}, element('label', { for: 'note' }, 'Your note')),
    area,
    said,
  );
}
