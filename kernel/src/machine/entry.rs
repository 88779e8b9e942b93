//! The first instructions: from either boot protocol to 64-bit Rust on a stack of our own.
//!
//! PVH enters in 32-bit protected mode without paging, Linux's 64-bit protocol in long mode on the boot
//! loader's page tables. Both ways lead to the same state: the low 4 GiB mapped one to one, our descriptors,
//! SSE enabled (the precompiled `core` uses it), interrupts off.

#![expect(unsafe_code, reason = "entry points in assembly")]

use core::arch::global_asm;

// The note by which VMMs find the 32-bit entry: type 18 is XEN_ELFNOTE_PHYS32_ENTRY (Xen,
// public/elfnote.h).
global_asm!(
    r#"
    .pushsection .note.Xen, "a", @note
    .p2align 2
    .long 4, 8, 18
    .asciz "Xen"
    .quad enl_pvh_entry
    .popsection

    .pushsection .rodata.boot_gdt, "a", @progbits
    .p2align 3
    .global enl_boot_gdt
enl_boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 0x08: 64-bit code, accessed */
    .quad 0x00cf93000000ffff    /* 0x10: data, accessed */
    .quad 0x00cf9b000000ffff    /* 0x18: 32-bit code, accessed */
    .global enl_boot_gdt_pointer
enl_boot_gdt_pointer:
    .word 31
    .quad enl_boot_gdt
    .popsection

    /* PML4, PDPT and four page directories. */
    .pushsection .bss.boot_tables, "aw", @nobits
    .p2align 12
enl_boot_tables:
    .skip 6 * 4096
    .popsection

    .pushsection .text.entry, "ax", @progbits
    .code32
    .global enl_pvh_entry
enl_pvh_entry:
    cli
    cld
    movl %ebx, %esi

    movl $enl_boot_tables, %edi
    leal 0x1003(%edi), %eax
    movl %eax, (%edi)
    leal 0x2003(%edi), %eax
    movl %eax, 0x1000(%edi)
    addl $0x1000, %eax
    movl %eax, 0x1008(%edi)
    addl $0x1000, %eax
    movl %eax, 0x1010(%edi)
    addl $0x1000, %eax
    movl %eax, 0x1018(%edi)
    leal 0x2000(%edi), %edi
    movl $0x83, %eax            /* present, writable, large */
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b

    movl %cr4, %eax
    orl $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $enl_boot_tables, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER */
    rdmsr
    orl $0x100, %eax            /* LME */
    wrmsr
    movl %cr0, %eax
    andl $0x9ffffff3, %eax      /* not CD, NW, TS, EM */
    orl $0x80000023, %eax       /* PG, NE, MP, PE */
    movl %eax, %cr0
    lgdt enl_boot_gdt_pointer
    ljmp $0x08, $2f

    .code64
2:  xorl %edi, %edi             /* protocol 0: PVH */
    movl %esi, %esi
    jmp 5f

    .global enl_linux64_entry
enl_linux64_entry:
    cli
    cld
    movq $enl_boot_tables, %rdi
    leaq 0x1003(%rdi), %rax
    movq %rax, (%rdi)
    leaq 0x2003(%rdi), %rax
    movl $4, %ecx
    leaq 0x1000(%rdi), %rdx
3:  movq %rax, (%rdx)
    addq $0x1000, %rax
    addq $8, %rdx
    loop 3b
    leaq 0x2000(%rdi), %rdx
    movl $0x83, %eax
    movl $2048, %ecx
4:  movq %rax, (%rdx)
    addq $8, %rdx
    addq $0x200000, %rax
    loop 4b
    movq %cr4, %rax
    orq $0x620, %rax
    movq %rax, %cr4
    movq %cr0, %rax
    andq $~0x6000000c, %rax
    orq $0x22, %rax
    movq %rax, %cr0
    movq %rdi, %cr3
    lgdt enl_boot_gdt_pointer
    movl $1, %edi               /* protocol 1: Linux 64-bit */

5:  movq $__boot_stack_top, %rsp
    call enl_load_segments
    xorl %ebp, %ebp
    call enl_boot
6:  cli
    hlt
    jmp 6b

    /* Loads the flat segments of enl_boot_gdt; changes RAX only. */
    .global enl_load_segments
enl_load_segments:
    movl $0x10, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    popq %rax
    pushq $0x08
    pushq %rax
    lretq
    .popsection
"#,
    options(att_syntax)
);
