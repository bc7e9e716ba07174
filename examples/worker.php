#!/usr/bin/env php
<?php // SPDX-License-Identifier: MIT
while (($line = fgets(STDIN)) !== false) { // nanoq work --stream -- examples/worker.php
    $task = json_decode($line, true);
    $to = is_array($task['payload'] ?? null) ? $task['payload']['to'] ?? null : null;
    if ($to !== null) fwrite(STDERR, "hello, $to\n");
    $answer = $to !== null ? ['done' => $task['id']] : ['discard' => $task['id'], 'error' => 'nobody to greet'];
    echo json_encode($answer), "\n";
}
