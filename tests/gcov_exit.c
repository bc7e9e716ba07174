/* SPDX-License-Identifier: MIT */
/* Of the coverage build only: a process that ends by _exit, as children of fork do, writes its counts too. */
void __gcov_dump(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

_Noreturn void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}
