#!/usr/bin/env ruby
# SPDX-License-Identifier: MIT
# A worker that takes any payload: nanoq work --stream -- ruby worker.rb
require 'digest'
require 'json'

$stdout.sync = true
$stdin.set_encoding('UTF-8') # whatever the environment says

# What it answers is the task's result. An exception: the attempt failed, and is made again later.
def handle(task, payload, bytes)
  raise ArgumentError, 'no such customer' if task['type'] == 'fail'
  bytes ? { bytes: payload.bytesize, sha256: Digest::SHA256.hexdigest(payload) } : payload
end

$stdin.each_line do |line|
  task = JSON.parse(line, max_nesting: false) # the default is 100 levels
  next if task.key?('cancel')
  begin
    bytes = task.key?('payload_base64')
    payload = bytes ? task['payload_base64'].unpack1('m') : task['payload']
    answer = JSON.generate({ done: task['id'], result: handle(task, payload, bytes) }, max_nesting: 0)
  rescue StandardError, SystemStackError => e
    answer = JSON.generate(retry: task['id'], error: "#{e.class}: #{e.message}".scrub)
  end
  puts answer
end
