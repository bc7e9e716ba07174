// SPDX-License-Identifier: MIT
// Before anything is drawn: light or dark, where the reader has said so; else as the system is.
'use strict';
try {
  const said = localStorage.getItem('nanoq-theme');
  if (said === 'light' || said === 'dark') document.documentElement.dataset.theme = said;
} catch {
  // No storage here: as the system is.
}
