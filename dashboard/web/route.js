// SPDX-License-Identifier: MIT
// Addresses within the page: #/tasks?state=dead&queue=mail, so that each view is a link.

export function parse(hash) {
  const text = hash.replace(/^#\/?/, '');
  const mark = text.indexOf('?');
  const path = (mark < 0 ? text : text.slice(0, mark)).split('/').filter(Boolean).map(decode);
  return {path, params: new URLSearchParams(mark < 0 ? '' : text.slice(mark + 1))};
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// link(['task', 7]), link(['tasks'], {state: ['dead'], queue: 'mail'}): empty values are left out.
export function link(path, params) {
  const search = params instanceof URLSearchParams ? params : new URLSearchParams();
  if (!(params instanceof URLSearchParams))
    for (const [name, value] of Object.entries(params ?? {}))
      for (const v of Array.isArray(value) ? value : [value]) if (v !== '' && v !== null && v !== undefined) search.append(name, v);
  const text = search.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

export function go(hash, replace) {
  if (hash === location.hash) return;
  if (replace) {
    history.replaceState(null, '', hash);
    dispatchEvent(new HashChangeEvent('hashchange'));
  } else {
    location.hash = hash;
  }
}
