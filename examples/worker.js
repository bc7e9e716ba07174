#!/usr/bin/env node
// SPDX-License-Identifier: MIT
const lines = require('readline').createInterface({ input: process.stdin })
lines.on('line', line => { // nanoq work --stream -- examples/worker.js
  const task = JSON.parse(line)
  const to = task.payload?.to
  if (to) console.error('hello,', to)
  console.log(JSON.stringify(to ? { done: task.id } : { discard: task.id, error: 'nobody to greet' }))
})
