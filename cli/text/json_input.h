/* SPDX-License-Identifier: MIT */
/* JSON from outside: checked with jansson, its bytes kept as they were. */
#ifndef JSON_INPUT_H
#define JSON_INPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* json_loadb, which takes a NUL behind a number for nothing: here it is an error. */
json_t *json_input_load(const char *p, size_t n, size_t flags, json_error_t *error);
/* Parse any JSON value that fills p[0..n). NULL: invalid, with a message and the position in characters. */
json_t *json_input(const char *p, size_t n, char message[256], int *line, int *column);
/* The same of an object or a list, of which also what jansson has no room for is taken: a number beyond it
 * reads as 9e99, half a character as U+FFFD. */
json_t *json_input_any(const char *p, size_t n, json_error_t *error);
/* Where the value of a member stands in the text of an object that json_input took. The member's name must be
 * written without escapes there. */
bool json_input_member(const char *p, size_t n, const char *name, size_t *start, size_t *size);
/* Does the text of an object that json_input took name a member of it twice? *at: where it does so. */
bool json_input_repeats(const char *p, size_t n, const json_t *object, size_t *at);
/* A duration: a number of seconds or text like "5m". False: why says what it must be. */
bool json_input_duration(const json_t *v, int64_t least, int64_t *out, char *why, size_t size);
/* Column, in characters from 1, of a byte on its line. */
int json_input_column(const char *p, size_t at);

#endif
