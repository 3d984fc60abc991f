// Contexts: a line each with the firing token in the middle, tokens shaded by activation.

let wholeContexts = false;

function contexts(data, feature, details) {
  const groups = data.meta.groups.map(([name, first, end]) =>
    group(data, feature, details, name, first, end),
  );
  const filled = groups.filter((found) => found !== null);
  const toggle = element('input', { type: 'checkbox', id: 'whole' });
  toggle.checked = wholeContexts;
  const body = element('div', { class: wholeContexts ? 'groups whole' : 'groups' }, ...filled);
  toggle.addEventListener('change', () => {
    wholeContexts = toggle.checked;
    body.classList.toggle('whole', wholeContexts);
  });
  const head = element(
    'div',
    { class: 'head' },
    element('h3', {}, 'Contexts'),
    element(
      'span',
      { class: 'legend', 'aria-hidden': 'true' },
      '0',
      element('i', {}),
      number(data.highest[feature], 3),
    ),
    element('label', {}, toggle, ' whole contexts'),
  );
  if (!filled.length) {
    const why = data.firings[feature] ? 'None were kept.' : 'None: it is never above 0 on this text.';
    return element(
      'section',
      { class: 'contexts' },
      element('h3', {}, 'Contexts'),
      element('p', { class: 'muted' }, why),
    );
  }
  return element('section', { class: 'contexts' }, head, body);
}

function group(data, feature, details, name, first, end) {
  const lines = [];
  for (let slot = first; slot < end; slot++) {
    const context = data.context(feature, details, slot);
    if (context) lines.push(line(data, feature, context));
  }
  if (!lines.length) return null;
  const title = element(
    'h4',
    {},
    element('bdi', {}, visible(name)),
    element('span', { class: 'muted' }, ` (${lines.length})`),
  );
  return element('div', { class: 'group' }, title, element('ol', {}, ...lines));
}

function line(data, feature, context) {
  const { ids, activations, at } = context;
  const tokens = Array.from(ids, (id, i) => token(data, feature, id, activations[i], i === at));
  const value = element(
    'button',
    { type: 'button', class: 'fired', 'aria-expanded': 'false' },
    number(activations[at], 3),
  );
  value.setAttribute('aria-label', `Activation ${number(activations[at], 3)}: show the whole context`);
  const where = `sequence ${whole(context.sequence)}, token ${whole(context.position)}`;
  value.title = `${where}: press for the whole context`;
  const body = element(
    'span',
    { class: 'line' },
    element('span', { class: 'left' }, ...tokens.slice(0, at)),
    tokens[at],
    element('span', { class: 'right' }, ...tokens.slice(at + 1)),
  );
  return element('li', {}, value, body);
}

function token(data, feature, id, activation, fires) {
  const made = element(fires ? 'mark' : 'span', { class: 't' }, visible(data.vocabulary[id]));
  if (activation > 0) {
    made.classList.add('on');
    made.style.setProperty('--a', Math.min(activation / data.highest[feature], 1).toFixed(3));
  }
  made.dataset.id = id;
  made.dataset.value = activation;
  return made;
}

// One element serves every token: what is under the pointer is said beside it.
function hints(data, main) {
  const hint = document.getElementById('hint');
  const hide = () => (hint.hidden = true);
  main.addEventListener('pointerover', (event) => {
    const found = event.target.closest('.t');
    if (!found) return hide();
    const value = Number(found.dataset.value);
    const id = Number(found.dataset.id);
    hint.replaceChildren(
      chip(data.vocabulary[id]),
      element('span', {}, `activation ${value > 0 ? number(value, 3) : '0'}`),
      element('span', { class: 'muted' }, `token id ${whole(id)}`),
    );
    hint.hidden = false;
    const box = found.getBoundingClientRect();
    const left = Math.min(Math.max(box.left, 8), innerWidth - hint.offsetWidth - 8);
    const below = box.bottom + 6 + hint.offsetHeight < innerHeight;
    hint.style.left = `${left}px`;
    hint.style.top = `${below ? box.bottom + 6 : box.top - hint.offsetHeight - 6}px`;
    return undefined;
  });
  main.addEventListener('pointerleave', hide);
  main.addEventListener('scroll', hide, { passive: true });
  main.addEventListener('click', (event) => {
    const li = event.target.closest('.contexts li');
    // A press that ends a selection of text is not one on the line.
    if (!li || String(getSelection())) return;
    const open = li.classList.toggle('whole');
    li.querySelector('.fired').setAttribute('aria-expanded', String(open));
  });
}
