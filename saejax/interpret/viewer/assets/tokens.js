// Elements, numbers and tokens as text. Text goes into the page as text nodes alone, never as markup.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const whole = (n) => n.toLocaleString('en-US');

function number(x, figures = 4) {
  if (Number.isNaN(x)) return '–';
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return x.toExponential(2).replace('-', '−');
  return String(Number(x.toPrecision(figures))).replace('-', '−');
}

const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

// Characters that would be invisible, or would turn the text around them.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

function seen(character) {
  if (character === '\n') return '↵';
  if (character === '\t') return '⇥';
  return `⟨U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`;
}

// A token's text: line ends, tabs and unseen characters as signs; spaces too where there is nothing else.
function visible(text) {
  if (text === '') return '∅';
  const shown = text.replace(UNSEEN, seen);
  return /^ +$/.test(shown) ? '·'.repeat(shown.length) : shown;
}

// The same with every space at its ends as a sign, for a token that stands alone.
function exact(text) {
  return visible(text).replace(/^ +| +$/g, (spaces) => '·'.repeat(spaces.length));
}

const chip = (text) => element('bdi', { class: 'chip' }, exact(text));

function byteless(text) {
  return text.replaceAll('·', ' ').replaceAll('↵', '\n');
}
