// The blocks of the page as typed arrays: what the list needs at once, the details of a feature when
// they are asked for.

const KINDS = { f4: Float32Array, u4: Uint32Array, i4: Int32Array, u2: Uint16Array, u1: Uint8Array };
const NO_TOKEN = 0xffffffff;
// Chunks that stay decoded: about 1 MB each.
const KEPT_CHUNKS = 16;

// The element of a block, when the browser has read all of it.
async function block(id) {
  const found = document.getElementById(id);
  if (!found?.nextElementSibling && document.readyState === 'loading') {
    await new Promise((done) => document.addEventListener('DOMContentLoaded', done, { once: true }));
  }
  const element = document.getElementById(id);
  if (!element) throw new Error(`This page is damaged: its part ${id} is absent.`);
  return element;
}

async function inflate(id) {
  const binary = atob((await block(id)).textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}

async function json(id) {
  return JSON.parse(new TextDecoder().decode(await inflate(id)));
}

// A buffer as named arrays. A layout has name, kind and length of each, one behind the other.
function split(buffer, layout) {
  const arrays = new Map();
  let offset = 0;
  for (const [name, kind, length] of layout) {
    arrays.set(name, new KINDS[kind](buffer, offset, length));
    offset += arrays.get(name).byteLength;
  }
  return arrays;
}

function perFeature(layout, features) {
  return layout.map(([name, kind, each]) => [name, kind, each * features]);
}

class Data {
  static async open() {
    if (typeof DecompressionStream === 'undefined') {
      throw new Error('This browser is too old for this page: it has no DecompressionStream.');
    }
    const data = new Data();
    const [meta, summary, vocabulary] = await Promise.all([
      json('meta'),
      inflate('summary'),
      json('vocabulary'),
    ]);
    data.meta = meta;
    data.vocabulary = vocabulary;
    const columns = split(summary, perFeature(meta.layouts.summary, meta.latents));
    for (const name of ['firings', 'highest', 'mean', 'selectivity', 'dead'])
      data[name] = columns.get(name);
    data.tops = { firing: columns.get('firing'), promotes: columns.get('promotes') };
    data.topCounts = {};
    for (const [name, , each] of meta.layouts.summary) data.topCounts[name] = each;
    data.labels = new Map(
      meta.labels.map(([feature, text, labeller]) => [feature, { text, labeller }]),
    );
    data.chunks = new Map();
    return data;
  }

  density(feature) {
    return this.firings[feature] / this.meta.rows;
  }

  // Ids of the tokens that stand for a feature: those at which it fires, or those that it promotes.
  top(kind, feature) {
    const each = this.topCounts[kind];
    return this.tops[kind]
      .subarray(feature * each, (feature + 1) * each)
      .filter((id) => id !== NO_TOKEN);
  }

  sample() {
    this.text ??= inflate('sample').then((buffer) => split(buffer, this.meta.sample));
    return this.text;
  }

  chunk(number) {
    const known = this.chunks.get(number);
    // The least recently used is the first of a map whose entries are put in anew at each use.
    this.chunks.delete(number);
    const { latents, perChunk, layouts } = this.meta;
    const size = Math.min(perChunk, latents - number * perChunk);
    const found =
      known ?? inflate(`chunk-${number}`).then((b) => split(b, perFeature(layouts.chunk, size)));
    this.chunks.set(number, found);
    if (this.chunks.size > KEPT_CHUNKS) this.chunks.delete(this.chunks.keys().next().value);
    return found;
  }

  // All that is known of a feature beyond the summary, by name.
  async details(feature) {
    const { perChunk, layouts } = this.meta;
    const [chunk, sample] = await Promise.all([
      this.chunk(Math.floor(feature / perChunk)),
      this.sample(),
    ]);
    const at = feature % perChunk;
    const details = { sample };
    for (const [name, , each] of layouts.chunk) {
      details[name] = chunk.get(name).subarray(at * each, (at + 1) * each);
    }
    return details;
  }

  // The tokens around a slot's row, cut where its sequence begins and ends; null for an empty slot.
  context(feature, details, slot) {
    const { before, after, fine, coarse } = this.meta;
    const row = details.rows[slot];
    if (row < 0) return null;
    const bounds = details.sample.get('bounds');
    const sequence = last(bounds.length, (i) => bounds[i] <= row);
    const first = Math.max(row - before, bounds[sequence]);
    const end = Math.min(row + after + 1, bounds[sequence + 1]);
    const runs = details.sample.get('runs');
    // Runs are pairs of first row and length; a row's token stands behind those of all runs before.
    this.offsets ??= offsetsOf(runs);
    const run = last(runs.length / 2, (i) => runs[2 * i] <= row);
    const from = this.offsets[run] + first - runs[2 * run];
    const width = before + 1 + after;
    const start = slot * width + first - (row - before);
    const highest = this.highest[feature];
    const around = details.around.subarray(start, start + end - first);
    const activations = Float32Array.from(around, (q) => (q / coarse) * highest);
    activations[row - first] = (details.fired[slot] / fine) * highest;
    return {
      ids: details.sample.get('tokens').subarray(from, from + end - first),
      activations,
      at: row - first,
      sequence,
      position: row - bounds[sequence],
    };
  }
}

// The last of n for which an ordered condition holds.
function last(n, holds) {
  let [low, high] = [0, n - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

function offsetsOf(runs) {
  const offsets = new Uint32Array(runs.length / 2);
  for (let i = 1; i < offsets.length; i++) offsets[i] = offsets[i - 1] + runs[2 * i - 1];
  return offsets;
}
