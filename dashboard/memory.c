/* SPDX-License-Identifier: MIT */
/* Little memory: it runs for weeks beside others, and mostly nobody looks at it. */
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef DASH_SQLITE
#include <sqlite3.h>
#endif

#include "dash.h"

/* Pages of the file are in the system's cache as well. Each connection would keep 2 MB of its own. */
#define MEMORY_SQLITE 1000000

void memory_start(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1); /* threads that mostly wait need no heap of their own each */
#endif
#ifdef DASH_SQLITE
    sqlite3_soft_heap_limit64(MEMORY_SQLITE);
#endif
}

/* Was its code changed when it was loaded? */
static bool memory_patched(const struct dl_phdr_info *info)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_DYNAMIC)
            continue;
        const ElfW(Dyn) *d = (const void *)(uintptr_t)(info->dlpi_addr + p->p_vaddr);
        for (; d->d_tag != DT_NULL; d++)
            if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && d->d_un.d_val & DF_TEXTREL))
                return true;
    }
    return false;
}

static int memory_object(struct dl_phdr_info *info, size_t size, void *udata)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)size;
    (void)udata;
    if (strncmp(info->dlpi_name, "linux-", 6) == 0 || memory_patched(info))
        return 0; /* the kernel's own, or not as in its file */
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || p->p_flags & PF_W)
            continue;
        const uintptr_t start = (uintptr_t)(info->dlpi_addr + p->p_vaddr), from = start & ~(page - 1),
                        end = (start + p->p_memsz + page - 1) & ~(page - 1);
        madvise((void *)from, end - from, MADV_DONTNEED);
    }
    return 0;
}

/* Names, relocations and constructors of 20 libraries, most of them those of TLS, were read and are not
 * again. What is called is mapped again as it is called. */
void memory_started(void)
{
    dl_iterate_phdr(memory_object, NULL);
    memory_idle();
}

void memory_idle(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
