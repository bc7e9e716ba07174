<?php // SPDX-License-Identifier: MIT
// Tasks from PHP: php enqueue.php sqlite FILE | mysql HOST PORT USER DATABASE
declare(strict_types=1);

const DUPLICATE = 1062; // MySQL's and MariaDB's number for a unique key that is taken

function connect(string $driver, string ...$where): PDO
{
    $options = [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION];
    if ($driver === 'sqlite') {
        $db = new PDO("sqlite:$where[0]", null, null, $options + [PDO::ATTR_TIMEOUT => 10]);
        // Without it a duplicate and a bad value have one number, 19; with it 2067 and 275.
        $db->setAttribute(PDO::SQLITE_ATTR_EXTENDED_RESULT_CODES, true);
        return $db;
    }
    [$host, $port, $user, $database] = $where;
    // charset: or a type that is not ASCII may be stored garbled, without an error.
    return new PDO("mysql:host=$host;port=$port;dbname=$database;charset=utf8mb4", $user, getenv('NANOQ_PASSWORD') ?: '', $options);
}

function is_sqlite(PDO $db): bool
{
    return $db->getAttribute(PDO::ATTR_DRIVER_NAME) === 'sqlite';
}

function run(PDO $db, string $sql, array $values = []): PDOStatement
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement;
}

/** true: there is such a task now; false: a live one has the key. A bad value throws. In the caller's transaction. */
function enqueue(PDO $db, string $type, string $payload, string $queue = 'default', int $delay = 0, ?string $key = null): bool
{
    if (is_sqlite($db)) {
        // The conflict clause is about unique keys alone: what a CHECK refuses still throws.
        $sql = "INSERT INTO nanoq_tasks (type, payload, queue, run_at, unique_key) VALUES (?, CAST(? AS BLOB), ?,
                  CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + ? * 1000000, COALESCE(?, 1))
                ON CONFLICT DO NOTHING";
        return run($db, $sql, [$type, $payload, $queue, $delay, $key])->rowCount() === 1;
    }
    $columns = 'type, payload, queue, run_at';
    $marks = '?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND';
    $values = [$type, $payload, $queue, $delay];
    if ($key !== null) {
        $columns .= ', unique_key';
        $marks .= ', UNHEX(SHA2(CONCAT(?, CHAR(0), ?), 256))';
        array_push($values, $type, $key);
    }
    try {
        run($db, "INSERT INTO nanoq_tasks ($columns) VALUES ($marks)", $values);
        return true;
    } catch (PDOException $e) {
        if ($e->errorInfo[1] !== DUPLICATE)
            throw $e; // getCode() would not tell: it is 23000 for a CHECK of MariaDB too
        return false; // the transaction is whole: only this statement was undone
    }
}

/** In statements of many rows; those whose key is taken are passed over. */
function enqueue_many(PDO $db, string $type, array $payloads, int $rows = 100): void
{
    $end = is_sqlite($db) ? 'ON CONFLICT DO NOTHING' : 'ON DUPLICATE KEY UPDATE id = id';
    foreach (array_chunk($payloads, $rows) as $part) {
        $marks = implode(', ', array_fill(0, count($part), '(?, ?)'));
        $values = array_merge(...array_map(fn($payload) => [$type, $payload], $part));
        run($db, "INSERT INTO nanoq_tasks (type, payload) VALUES $marks $end", $values);
    }
}

/** Not beginTransaction(): on SQLite that begins one that reads, which may fail as it begins to write. */
function begin(PDO $db): void
{
    $db->exec(is_sqlite($db) ? 'BEGIN IMMEDIATE' : 'BEGIN');
}

$db = connect(...array_slice($argv, 1));
$db->exec('CREATE TABLE movement (article INTEGER, amount INTEGER)');

begin($db); // both, or neither
run($db, 'INSERT INTO movement VALUES (?, ?)', [7, 12]);
enqueue($db, 'recalculate', '7');
$db->exec('COMMIT');

begin($db);
run($db, 'INSERT INTO movement VALUES (?, ?)', [8, 1]);
enqueue($db, 'recalculate', '8');
$db->exec('ROLLBACK');
echo 'movements: ', $db->query('SELECT COUNT(*) FROM movement')->fetchColumn(), "\n";

enqueue($db, 'reminder', '{"to": 2}', delay: 7200);
foreach ([1, 2] as $version)
    echo 'sync: ', enqueue($db, 'sync', "{\"v\": $version}", key: 'customer 7') ? 'added' : 'duplicate', "\n";

begin($db);
enqueue_many($db, 'row', array_map('strval', [...range(0, 999), 0]));
$db->exec('COMMIT');

try {
    enqueue($db, 'sync', '{}', queue: 'no spaces, please');
} catch (PDOException $e) {
    echo 'bad value: ', $e::class, "\n";
}
enqueue($db, 'größe 🎉', pack('C*', ...range(0, 255)));
