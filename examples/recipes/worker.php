<?php // SPDX-License-Identifier: MIT
// A worker that takes any payload: nanoq work --stream -- php worker.php
declare(strict_types=1);
ini_set('display_errors', 'stderr'); // standard output is for answers: a warning there would break the protocol

const DEPTH = 100_000; // the default is 512 levels
const FLAGS = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;

/** What it answers is the task's result. An exception: the attempt failed, and is made again later. */
function handle(object $task, mixed $payload, bool $is_bytes): mixed
{
    if ($task->type === 'fail')
        throw new RuntimeException('no such customer');
    return $is_bytes ? ['bytes' => strlen($payload), 'sha256' => hash('sha256', $payload)] : $payload;
}

while (($line = fgets(STDIN)) !== false) {
    // Objects, not arrays: as an array {} and [] are the same.
    $task = json_decode($line, false, DEPTH, JSON_THROW_ON_ERROR);
    if (isset($task->cancel))
        continue;
    try {
        $is_bytes = isset($task->payload_base64);
        $payload = $is_bytes ? base64_decode($task->payload_base64) : $task->payload;
        $answer = json_encode(['done' => $task->id, 'result' => handle($task, $payload, $is_bytes)], FLAGS, DEPTH);
    } catch (Throwable $e) {
        $error = $e::class . ': ' . $e->getMessage();
        $answer = json_encode(['retry' => $task->id, 'error' => $error], JSON_INVALID_UTF8_SUBSTITUTE);
    }
    echo $answer, "\n";
}
