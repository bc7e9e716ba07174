// SPDX-License-Identifier: MIT
// What this browser remembers. Where it may store nothing, it holds until the page is left.
const memory = new Map();

export function get(name) {
  try {
    return localStorage.getItem(`nanoq-${name}`) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

export function set(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(`nanoq-${name}`, value);
  } catch {
    // Full, or not allowed.
  }
}

// "auto", "light", "dark"
export function theme() {
  return document.documentElement.dataset.theme ?? 'auto';
}

export function setTheme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  set('theme', name);
  document.dispatchEvent(new Event('themechange'));
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => document.dispatchEvent(new Event('themechange')));
