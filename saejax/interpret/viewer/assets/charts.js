// Histograms as SVG, with axes.

const SVG = 'http://www.w3.org/2000/svg';

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Round numbers from low to high, about n of them.
function ticks(low, high, n) {
  const rough = (high - low) / n;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    found.push(i * step + 0);
  return found;
}

function compact(n) {
  if (n >= 1e6) return `${Number((n / 1e6).toPrecision(3))}M`;
  return n >= 1e4 ? `${Number((n / 1e3).toPrecision(3))}k` : whole(n);
}

// Counts in equal bins from low to high. `colour` gives a bar's class and strength from its middle.
function histogram(counts, low, high, { label, unit, colour, log = false }) {
  const [width, height, left, bottom, top] = [340, 172, 44, 22, 8];
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  const scale = log ? (n) => Math.log1p(n) / Math.log1p(most) : (n) => n / most;
  const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - 8);
  const y = (n) => height - bottom - scale(n) * (height - bottom - top);
  const chart = svg('svg', {
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'aria-label': label,
    class: 'chart',
  });
  const levels = log ? powers(most) : ticks(0, most, 3).filter(Number.isInteger);
  for (const n of levels) {
    chart.append(
      svg('line', { x1: left, x2: width - 8, y1: y(n), y2: y(n), class: 'grid' }),
      svg('text', { x: left - 5, y: y(n) + 4, 'text-anchor': 'end' }, compact(n)),
    );
  }
  for (const value of ticks(low, high, 5)) {
    chart.append(
      svg('line', {
        x1: x(value),
        x2: x(value),
        y1: height - bottom,
        y2: height - bottom + 4,
        class: 'axis',
      }),
      svg('text', { x: x(value), y: height - 6, 'text-anchor': 'middle' }, number(value, 3)),
    );
  }
  const step = (high - low) / counts.length;
  counts.forEach((n, i) => {
    if (!n) return;
    const [from, to] = [low + i * step, low + (i + 1) * step];
    const wide = Math.max(x(to) - x(from) - 0.5, 0.8);
    const tall = Math.max(height - bottom - y(n), 1);
    const bar = svg('rect', { x: x(from), y: height - bottom - tall, width: wide, height: tall });
    const { kind, strength } = colour((from + to) / 2);
    bar.setAttribute('class', kind);
    if (strength !== undefined) bar.style.setProperty('--a', strength.toFixed(3));
    bar.append(svg('title', {}, `${number(from)} to ${number(to)}: ${whole(n)} ${unit}`));
    chart.append(bar);
  });
  chart.append(
    svg('line', { x1: left, x2: width - 8, y1: height - bottom, y2: height - bottom, class: 'axis' }),
  );
  return chart;
}

function powers(most) {
  const found = [];
  for (let n = 1; n <= most; n *= 10) found.push(n);
  return found.length > 4 ? found.filter((_, i) => i % 2 === 0) : found;
}
