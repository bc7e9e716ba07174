// SPDX-License-Identifier: MIT
// The search of the site: over searchIndex, rows of [page, heading, address, text], in the browser alone.
'use strict';

// How much a row is worth for these words; 0: one of them is not in it.
function worth(row, words) {
  const page = row[0].toLowerCase(), heading = row[1].toLowerCase(), text = row[3].toLowerCase();
  let sum = 0;
  for (const word of words) {
    const times = text.split(word).length - 1;
    const here = (page.includes(word) ? 20 : 0) + (heading.includes(word) ? 30 : 0) + Math.min(times, 8);
    if (here === 0) return 0;
    sum += here;
  }
  return sum;
}

// The best rows for what was typed, best first.
function search(rows, typed, most) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  return rows.map((row) => [worth(row, words), row]).filter(([points]) => points > 0)
    .sort((a, b) => b[0] - a[0]).slice(0, most).map(([, row]) => row);
}

// What stands around the first of the words.
function excerpt(row, typed) {
  const word = typed.toLowerCase().split(/\s+/).filter(Boolean)[0] || '';
  const at = Math.max(0, row[3].toLowerCase().indexOf(word) - 60);
  return (at > 0 ? '... ' : '') + row[3].slice(at, at + 180) + (row[3].length > at + 180 ? ' ...' : '');
}

function begin() {
  const input = document.querySelector('input[name=q]'), list = document.getElementById('page-found');
  const article = document.querySelector('article'), root = document.body.dataset.root;
  const show = () => {
    const typed = input.value.trim(), rows = search(searchIndex, typed, 30);
    list.replaceChildren();
    for (const row of rows) {
      const item = document.createElement('li'), link = document.createElement('a'), text = document.createElement('p');
      link.href = root + row[2];
      link.textContent = row[0] === row[1] ? row[0] : row[0] + ': ' + row[1];
      text.textContent = excerpt(row, typed);
      item.append(link, text);
      list.append(item);
    }
    if (typed && rows.length === 0) {
      const item = document.createElement('li');
      item.textContent = 'Nothing has all of these words.';
      list.append(item);
    }
    list.hidden = typed === '';
    article.hidden = typed !== '';
  };
  input.addEventListener('input', show);
  input.form.addEventListener('submit', (event) => {
    event.preventDefault();
    const first = list.querySelector('a');
    if (first) first.click();
  });
  // A result on this very page is shown by leaving the search.
  list.addEventListener('click', (event) => {
    if (event.target.closest('a')) { input.value = ''; show(); }
  });
  show();
}

if (typeof document !== 'undefined') begin();
