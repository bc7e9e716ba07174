// SPDX-License-Identifier: MIT
// The JSON API (docs/api.md). Addresses are relative, so that a proxy may put the dashboard under a path.
const BASE = 'api/v1/';

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// A number that JavaScript cannot hold, an id of 19 digits perhaps, stays the text that it is, where the browser shows it.
function exact(key, value, context) {
  return typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value;
}

async function call(path, init) {
  let response;
  try {
    response = await fetch(BASE + path, {credentials: 'same-origin', cache: 'no-store', redirect: 'error', ...init});
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw new ApiError(0, 'ENETWORK', 'The dashboard does not answer');
  }
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text, exact) : null;
  } catch {
    // Not ours: a proxy's page, perhaps.
  }
  if (response.ok) return body;
  if (response.status === 401) document.dispatchEvent(new Event('signedout'));
  throw new ApiError(response.status, body?.error?.code ?? '', body?.error?.message ?? `The dashboard answered ${response.status}`);
}

function query(params) {
  const search = params instanceof URLSearchParams ? params : new URLSearchParams(Object.entries(params ?? {}).filter(([, v]) => v !== null && v !== undefined && v !== ''));
  const text = search.toString();
  return text ? `?${text}` : '';
}

export function get(path, params, signal) {
  return call(path + query(params), {signal});
}

export function post(path, body) {
  return call(path, {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Nanoq-Request': '1'}, body: JSON.stringify(body ?? {})});
}

export function part(text) {
  return encodeURIComponent(text);
}
