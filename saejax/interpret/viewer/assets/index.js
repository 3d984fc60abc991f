// The index: its table is sorted by the column whose heading is pressed.

const headings = [...document.querySelectorAll('main > .scroll thead th')];
const table = document.querySelector('main > .scroll tbody');

function keyOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.key ?? cell.textContent;
}

function sortBy(column, ascending) {
  const rows = [...table.rows];
  rows.sort((a, b) => {
    const [x, y] = [keyOf(a, column), keyOf(b, column)];
    const [m, n] = [Number(x), Number(y)];
    const order = x !== '' && y !== '' && !Number.isNaN(m - n) ? m - n : x.localeCompare(y);
    return ascending ? order : -order;
  });
  table.append(...rows);
  headings.forEach((heading, i) => {
    heading.setAttribute('aria-sort', i !== column ? 'none' : ascending ? 'ascending' : 'descending');
  });
}

headings.forEach((heading, column) => {
  heading.querySelector('button').addEventListener('click', () => {
    sortBy(column, heading.getAttribute('aria-sort') !== 'ascending');
  });
});
