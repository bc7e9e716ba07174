#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# Tasks from Perl: enqueue.pl SQLite FILE | MariaDB HOST PORT USER DATABASE | mysql HOST PORT USER DATABASE
use strict;
use warnings;
use utf8;
use DBI qw(:sql_types);

use constant {DUPLICATE => 1062};    # MySQL's and MariaDB's number for a unique key that is taken

sub connect_to {
    my ($driver, @where) = @_;
    my %options = (RaiseError => 1, PrintError => 0, AutoCommit => 1);
    if ($driver eq 'SQLite') {
        # Without extended codes a duplicate and a bad value have one number, 19; with them 2067 and 275.
        my $db = DBI->connect("dbi:SQLite:dbname=$where[0]", '', '',
            {%options, sqlite_unicode => 1, sqlite_extended_result_codes => 1});
        $db->sqlite_busy_timeout(10_000);
        return $db;
    }
    my ($host, $port, $user, $database) = @where;
    $options{mysql_enable_utf8mb4} = 1 if $driver eq 'mysql';    # DBD::MariaDB always speaks utf8mb4
    return DBI->connect("dbi:$driver:database=$database;host=$host;port=$port", $user, $ENV{NANOQ_PASSWORD} // '', \%options);
}

sub is_sqlite { return $_[0]{Driver}{Name} eq 'SQLite' }

# A payload is bytes. Bound as text, DBD::MariaDB would encode each byte above 127, and SQLite end it for readers at a zero.
sub insert {
    my ($db, $sql, $payload_at, @values) = @_;
    my $statement = $db->prepare($sql);
    for my $i (1 .. @values) {
        my $is_payload = grep { $_ == $i } @$payload_at;
        $is_payload ? $statement->bind_param($i, $values[$i - 1], SQL_BLOB) : $statement->bind_param($i, $values[$i - 1]);
    }
    return $statement->execute;
}

# True: there is such a task now; false: a live one has the key. A bad value dies. In the caller's transaction.
sub enqueue {
    my ($db, $type, $payload, %o) = (@_[0 .. 2], queue => 'default', delay => 0, key => undef, @_[3 .. $#_]);
    if (is_sqlite($db)) {
        # The conflict clause is about unique keys alone: what a CHECK refuses still dies.
        my $added = insert($db, "INSERT INTO nanoq_tasks (type, payload, queue, run_at, unique_key) VALUES (?, ?, ?,
            CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + ? * 1000000, COALESCE(?, 1))
            ON CONFLICT DO NOTHING", [2], $type, $payload, @o{qw(queue delay key)});
        return $added == 1;
    }
    my ($columns, $marks) = ('type, payload, queue, run_at', '?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND');
    my @values = ($type, $payload, @o{qw(queue delay)});
    if (defined $o{key}) {
        $columns .= ', unique_key';
        $marks .= ', UNHEX(SHA2(CONCAT(?, CHAR(0), ?), 256))';
        push @values, $type, $o{key};
    }
    return 1 if eval { insert($db, "INSERT INTO nanoq_tasks ($columns) VALUES ($marks)", [2], @values) };
    die $@ if $db->err != DUPLICATE;
    return 0;    # the transaction is whole: only this statement was undone
}

# In statements of many rows; those whose key is taken are passed over.
sub enqueue_many {
    my ($db, $type, @payloads) = @_;
    my $end = is_sqlite($db) ? 'ON CONFLICT DO NOTHING' : 'ON DUPLICATE KEY UPDATE id = id';
    while (my @part = splice @payloads, 0, 100) {
        my $marks = join ', ', ('(?, ?)') x @part;
        insert($db, "INSERT INTO nanoq_tasks (type, payload) VALUES $marks $end", [map { 2 * $_ } 1 .. @part],
            map { ($type, $_) } @part);
    }
    return;
}

# begin_work of DBD::SQLite is BEGIN IMMEDIATE unless sqlite_use_immediate_transaction is taken away.
my $db = connect_to(@ARGV);
$db->do('CREATE TABLE movement (article INTEGER, amount INTEGER)');

$db->begin_work;    # both, or neither
$db->do('INSERT INTO movement VALUES (?, ?)', undef, 7, 12);
enqueue($db, 'recalculate', '7');
$db->commit;

$db->begin_work;
$db->do('INSERT INTO movement VALUES (?, ?)', undef, 8, 1);
enqueue($db, 'recalculate', '8');
$db->rollback;
print 'movements: ', $db->selectrow_array('SELECT COUNT(*) FROM movement'), "\n";

enqueue($db, 'reminder', '{"to": 2}', delay => 7200);
for my $version (1, 2) {
    print 'sync: ', enqueue($db, 'sync', qq({"v": $version}), key => 'customer 7') ? 'added' : 'duplicate', "\n";
}

$db->begin_work;
enqueue_many($db, 'row', 0 .. 999, 0);
$db->commit;

eval { enqueue($db, 'sync', '{}', queue => 'no spaces, please') };
print "bad value: died\n" if $@;
enqueue($db, 'größe 🎉', join '', map { chr } 0 .. 255);
