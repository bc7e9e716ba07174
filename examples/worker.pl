#!/usr/bin/perl
# SPDX-License-Identifier: MIT
use strict; use warnings; use JSON::PP;
$| = 1;
while (my $line = <STDIN>) { # nanoq work --stream -- examples/worker.pl
    my $task = decode_json($line);
    my $to = ref $task->{payload} eq 'HASH' ? $task->{payload}{to} : undef;
    print STDERR "hello, $to\n" if defined $to;
    print encode_json(defined $to ? {done => $task->{id}} : {discard => $task->{id}, error => "nobody to greet"}), "\n";
}
