// SPDX-License-Identifier: MIT
// Where the reader was on a page, for back, forward and reload: how far down, and on which link.
const places = new Map();
let n = 0;
let current = null;

history.scrollRestoration = 'manual';
try {
  const kept = JSON.parse(sessionStorage.getItem('nanoq-places') ?? '[]');
  for (const [key, place] of kept) places.set(key, place);
  n = Math.max(0, ...places.keys());
} catch {
  // Nothing was kept.
}

function note() {
  if (current === null) return;
  const focused = document.activeElement?.closest('main a')?.getAttribute('href') ?? null;
  places.set(current, {y: scrollY, focused});
  while (places.size > 50) places.delete(places.keys().next().value);
}

addEventListener('scrollend', note);
addEventListener('focusin', note);
addEventListener('pagehide', () => {
  note();
  try {
    sessionStorage.setItem('nanoq-places', JSON.stringify([...places]));
  } catch {
    // Then it is forgotten.
  }
});

// An address is shown: true where it was shown before, and its place comes back when the view is there.
export function arrived() {
  const key = history.state?.place;
  if (key === undefined) {
    current = ++n;
    history.replaceState({place: current}, '');
    return false;
  }
  current = key;
  const place = places.get(key);
  if (!place) return false;
  const end = Date.now() + 3000;
  const mine = key;
  const back = () => {
    if (current !== mine || Date.now() > end) return;
    if (document.querySelector('main .loading') || document.documentElement.scrollHeight < place.y + innerHeight) return void setTimeout(back, 50);
    scrollTo(0, place.y);
    if (place.focused && (document.activeElement === document.body || document.activeElement?.localName === 'h1'))
      [...document.querySelectorAll('main a')].find((a) => a.getAttribute('href') === place.focused)?.focus({preventScroll: true});
  };
  setTimeout(back, 0);
  return true;
}
