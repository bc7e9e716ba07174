#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# A worker that takes any payload: nanoq work --stream -- perl worker.pl
use strict;
use warnings;
no warnings 'recursion';    # deep JSON is not a mistake
use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Math::BigFloat;
use MIME::Base64;

$| = 1;

# utf8: bytes in and out. allow_nonref: a payload may be a number or null. The default depth is 512.
my $json = JSON::PP->new->utf8->allow_nonref->allow_bignum->max_depth(100_000);

# 1e99999999 stays as short as it is; written out it has a hundred million digits.
{
    no warnings 'redefine';
    my $plain = \&Math::BigFloat::bstr;
    *Math::BigFloat::bstr = sub {
        my ($x) = @_;
        my $far = ref $x && !$x->is_inf && !$x->is_nan && $x->exponent->babs > 1000;
        return $far ? $x->bsstr : $plain->(@_);
    };
}

# What it answers is the task's result. If it dies, the attempt failed, and is made again later.
sub handle {
    my ($task, $payload, $is_bytes) = @_;
    die "no such customer\n" if $task->{type} eq 'fail';
    return $is_bytes ? {bytes => length $payload, sha256 => sha256_hex($payload)} : $payload;
}

while (my $line = <STDIN>) {
    my $task = $json->decode($line);
    next if exists $task->{cancel};
    my $is_bytes = exists $task->{payload_base64};
    my $answer = eval {
        my $payload = $is_bytes ? decode_base64($task->{payload_base64}) : $task->{payload};
        $json->encode({done => $task->{id}, result => handle($task, $payload, $is_bytes)});
    } // $json->encode({retry => $task->{id}, error => "$@"});
    print "$answer\n";
}
