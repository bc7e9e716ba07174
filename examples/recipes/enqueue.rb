#!/usr/bin/env ruby
# SPDX-License-Identifier: MIT
# Tasks from Ruby: enqueue.rb sqlite FILE | mysql HOST PORT USER DATABASE

DUPLICATE = 1062 # MySQL's and MariaDB's number for a unique key that is taken

# One way of asking for both: run answers rows, changed the number of rows that the last statement changed.
class Sqlite
  def initialize(file)
    require 'sqlite3'
    @db = SQLite3::Database.new(file)
    @db.busy_timeout = 10_000
    @db.extended_result_codes = true # or a duplicate and a bad value have one code, 19; with it 2067 and 275
  end

  def sqlite? = true
  def begin = run('BEGIN IMMEDIATE')
  def changed = @db.changes

  # A string of bytes (ASCII-8BIT) is bound as a blob: for a payload that is right, for a type it is refused.
  def run(sql, values = []) = @db.execute(sql, values)
end

class Mysql
  def initialize(host, port, user, database)
    require 'mysql2'
    # encoding: the default of older versions is utf8, which refuses an emoji in a type.
    @db = Mysql2::Client.new(host: host, port: port.to_i, username: user, password: ENV['NANOQ_PASSWORD'],
                             database: database, encoding: 'utf8mb4', as: :array)
  end

  def sqlite? = false
  def begin = run('BEGIN')

  def run(sql, values = [])
    values.empty? ? @db.query(sql).to_a : @db.prepare(sql).execute(*values, as: :array).to_a
  end
end

# true: there is such a task now; false: a live one has the key. A bad value raises. In the caller's transaction.
def enqueue(db, type, payload, queue: 'default', delay: 0, key: nil)
  if db.sqlite?
    # The conflict clause is about unique keys alone: what a CHECK refuses still raises.
    db.run("INSERT INTO nanoq_tasks (type, payload, queue, run_at, unique_key) VALUES (?, ?, ?,
      CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + ? * 1000000, COALESCE(?, 1))
      ON CONFLICT DO NOTHING", [type, payload, queue, delay, key])
    return db.changed == 1
  end
  columns, marks = 'type, payload, queue, run_at', '?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND'
  values = [type, payload, queue, delay]
  if key
    columns += ', unique_key'
    marks += ', UNHEX(SHA2(CONCAT(?, CHAR(0), ?), 256))'
    values += [type, key]
  end
  begin
    db.run("INSERT INTO nanoq_tasks (#{columns}) VALUES (#{marks})", values)
    true
  rescue Mysql2::Error => e
    raise unless e.error_number == DUPLICATE
    false # the transaction is whole: only this statement was undone
  end
end

# In statements of many rows; those whose key is taken are passed over.
def enqueue_many(db, type, payloads, rows: 100)
  tail = db.sqlite? ? 'ON CONFLICT DO NOTHING' : 'ON DUPLICATE KEY UPDATE id = id'
  payloads.each_slice(rows) do |part|
    marks = (['(?, ?)'] * part.size).join(', ')
    db.run("INSERT INTO nanoq_tasks (type, payload) VALUES #{marks} #{tail}", part.flat_map { |payload| [type, payload] })
  end
end

driver, *where = ARGV
db = driver == 'sqlite' ? Sqlite.new(*where) : Mysql.new(*where)
db.run('CREATE TABLE movement (article INTEGER, amount INTEGER)')

db.begin # both, or neither
db.run('INSERT INTO movement VALUES (?, ?)', [7, 12])
enqueue(db, 'recalculate', '7')
db.run('COMMIT')

db.begin
db.run('INSERT INTO movement VALUES (?, ?)', [8, 1])
enqueue(db, 'recalculate', '8')
db.run('ROLLBACK')
puts "movements: #{db.run('SELECT COUNT(*) FROM movement')[0][0]}"

enqueue(db, 'reminder', '{"to": 2}', delay: 7200)
[1, 2].each do |version|
  puts "sync: #{enqueue(db, 'sync', "{\"v\": #{version}}", key: 'customer 7') ? 'added' : 'duplicate'}"
end

db.begin
enqueue_many(db, 'row', [*0..999, 0].map(&:to_s))
db.run('COMMIT')

begin
  enqueue(db, 'sync', '{}', queue: 'no spaces, please')
rescue StandardError => e
  puts "bad value: #{e.class}"
end
enqueue(db, 'größe 🎉', (0..255).to_a.pack('C*'))
