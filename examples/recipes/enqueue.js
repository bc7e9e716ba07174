#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// Tasks from Node: enqueue.js better-sqlite3 FILE | node:sqlite FILE | mysql2 HOST PORT USER DATABASE
const DUPLICATE = 1062 // MySQL's and MariaDB's number for a unique key that is taken

// One way of asking for the three: run answers the number of changed rows, value the one value of a row.
async function connect(driver, ...where) {
  if (driver !== 'mysql2') {
    const module = require(driver)
    const db = new (module.DatabaseSync ?? module)(where[0])
    db.exec('PRAGMA busy_timeout = 10000')
    return {
      sqlite: true,
      begin: () => db.exec('BEGIN IMMEDIATE'),
      run: (sql, values = []) => db.prepare(sql).run(...values).changes,
      value: sql => Object.values(db.prepare(sql).get())[0],
      close: () => db.close(),
    }
  }
  const [host, port, user, database] = where
  const db = await require('mysql2/promise').createConnection(
    { host, port: Number(port), user, password: process.env.NANOQ_PASSWORD, database, charset: 'utf8mb4' })
  return {
    begin: () => db.query('BEGIN'),
    run: async (sql, values = []) => (await db.query(sql, values))[0].affectedRows,
    value: async sql => Object.values((await db.query(sql))[0][0])[0],
    close: () => db.end(),
  }
}

// true: there is such a task now; false: a live one has the key. A bad value throws. In the caller's transaction.
// A key is a string: on SQLite a number is refused.
async function enqueue(db, type, payload, { queue = 'default', delay = 0, key = null } = {}) {
  if (db.sqlite) {
    // The conflict clause is about unique keys alone: what a CHECK refuses still throws.
    return await db.run(`INSERT INTO nanoq_tasks (type, payload, queue, run_at, unique_key) VALUES (?, ?, ?,
      CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + CAST(? * 1000000 AS INTEGER), COALESCE(?, 1))
      ON CONFLICT DO NOTHING`, [type, payload, queue, delay, key]) === 1
  }
  let columns = 'type, payload, queue, run_at'
  let marks = '?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND'
  const values = [type, payload, queue, delay]
  if (key !== null) {
    columns += ', unique_key'
    marks += ', UNHEX(SHA2(CONCAT(?, CHAR(0), ?), 256))'
    values.push(type, key)
  }
  try {
    await db.run(`INSERT INTO nanoq_tasks (${columns}) VALUES (${marks})`, values)
    return true
  } catch (error) {
    if (error.errno !== DUPLICATE) throw error
    return false // the transaction is whole: only this statement was undone
  }
}

// In statements of many rows; those whose key is taken are passed over.
async function enqueueMany(db, type, payloads, rows = 100) {
  const end = db.sqlite ? 'ON CONFLICT DO NOTHING' : 'ON DUPLICATE KEY UPDATE id = id'
  for (let i = 0; i < payloads.length; i += rows) {
    const part = payloads.slice(i, i + rows)
    const marks = part.map(() => '(?, ?)').join(', ')
    await db.run(`INSERT INTO nanoq_tasks (type, payload) VALUES ${marks} ${end}`, part.flatMap(payload => [type, payload]))
  }
}

async function main() {
  const db = await connect(...process.argv.slice(2))
  await db.run('CREATE TABLE movement (article INTEGER, amount INTEGER)')

  await db.begin() // both, or neither
  await db.run('INSERT INTO movement VALUES (?, ?)', [7, 12])
  await enqueue(db, 'recalculate', '7')
  await db.run('COMMIT')

  await db.begin()
  await db.run('INSERT INTO movement VALUES (?, ?)', [8, 1])
  await enqueue(db, 'recalculate', '8')
  await db.run('ROLLBACK')
  console.log('movements:', await db.value('SELECT COUNT(*) FROM movement'))

  await enqueue(db, 'reminder', '{"to": 2}', { delay: 7200 })
  for (const version of [1, 2]) {
    const added = await enqueue(db, 'sync', `{"v": ${version}}`, { key: 'customer 7' })
    console.log('sync:', added ? 'added' : 'duplicate')
  }

  await db.begin()
  await enqueueMany(db, 'row', [...Array(1000).keys(), 0].map(String))
  await db.run('COMMIT')

  try {
    await enqueue(db, 'sync', '{}', { queue: 'no spaces, please' })
  } catch (error) {
    console.log('bad value:', error.constructor.name)
  }
  await enqueue(db, 'größe 🎉', Buffer.from([...Array(256).keys()]))
  await db.close()
}

main()
