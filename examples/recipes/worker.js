#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// A worker that takes any payload: nanoq work --stream -- node worker.js
const { createHash } = require('crypto')

// What it answers is the task's result. An exception: the attempt failed, and is made again later.
async function handle(task, payload) {
  if (task.type === 'fail') throw new Error('no such customer')
  if (Buffer.isBuffer(payload)) return { bytes: payload.length, sha256: createHash('sha256').update(payload).digest('hex') }
  return payload
}

async function main() {
  // readline, not 'data' events: a line may come in several pieces, and an emoji may be cut in two.
  const lines = require('readline').createInterface({ input: process.stdin, crlfDelay: Infinity })
  for await (const line of lines) {
    const task = JSON.parse(line)
    if ('cancel' in task) continue
    let answer
    try {
      const payload = 'payload_base64' in task ? Buffer.from(task.payload_base64, 'base64') : task.payload
      // undefined has no JSON, and the member would be left out: no result.
      answer = JSON.stringify({ done: task.id, result: await handle(task, payload) })
    } catch (error) {
      answer = JSON.stringify({ retry: task.id, error: String(error) })
    }
    process.stdout.write(answer + '\n')
  }
}

main()
