# What the boot loader hands over: registers, command line, modules, memory, and where the RSDP is.

.Lboot:
    mov $.Ls_magic-.LB, %esi
    mov .Lmagic-.LB, %eax
    call .Lshow
    # VM and IF.
    mov $.Ls_flags-.LB, %esi
    mov .Lflags-.LB, %eax
    and $0x20200, %eax
    call .Lshow
    # PE and PG.
    mov $.Ls_cr0-.LB, %esi
    mov %cr0, %eax
    and $0x80000001, %eax
    call .Lshow
    # The data segments' limit.
    mov %ds, %ax
    movzx %ax, %eax
    lsl %eax, %eax
    mov $.Ls_limit-.LB, %esi
    call .Lshow
    # The A20 gate: 1 MiB is not 0.
    movl $0, 0x500
    movl $0x600DA200, 0x100500
    mov 0x500, %eax
    mov $.Ls_a20-.LB, %esi
    call .Lshow

    mov .Linfo-.LB, %ebx
    # Memory, command line, modules, memory map.
    mov $.Ls_has-.LB, %esi
    mov (%ebx), %eax
    and $0x4D, %eax
    call .Lshow
    mov $.Ls_line-.LB, %esi
    call .Lputs
    mov 16(%ebx), %esi
    call .Lputs
    mov $'\n', %al
    call .Lputc

    mov $.Ls_modules-.LB, %esi
    mov 20(%ebx), %eax
    call .Lshow
    mov 20(%ebx), %ecx
    mov 24(%ebx), %edi
    jecxz 4f
3:  mov 8(%edi), %esi
    call .Lputs
    mov $':', %al
    call .Lputc
    mov (%edi), %esi
    # On a page of its own.
    test $0xFFF, %esi
    jnz .Lbad_module
5:  cmp 4(%edi), %esi
    jae 6f
    lodsb
    call .Lputc
    jmp 5b
6:  mov $'\n', %al
    call .Lputc
    add $16, %edi
    loop 3b

4:  # 512 to 640 KiB below; above, at least 24 MiB of the 32.
    mov 4(%ebx), %eax
    sub $512, %eax
    cmp $128, %eax
    ja .Lbad_memory
    cmpl $24<<10, 8(%ebx)
    jb .Lbad_memory
    cmpl $31<<10, 8(%ebx)
    ja .Lbad_memory
    # The map has RAM from 1 MiB on, as much as was told.
    mov 48(%ebx), %edi
    mov 44(%ebx), %ecx
    add %edi, %ecx
7:  cmp %ecx, %edi
    jae .Lbad_memory
    cmpl $0x100000, 4(%edi)
    jne 8f
    cmpl $1, 20(%edi)
    jne 8f
    mov 12(%edi), %eax
    shr $10, %eax
    cmp 8(%ebx), %eax
    je 9f
8:  add (%edi), %edi
    add $4, %edi
    jmp 7b
9:  mov $.Ls_memory-.LB, %esi
    call .Lputs

    # "RSD PTR " at a multiple of 16, with a checksum over 20 bytes.
    mov $0xE0000, %edi
1:  cmpl $0x20445352, (%edi)
    jne 2f
    cmpl $0x20525450, 4(%edi)
    jne 2f
    xor %eax, %eax
    mov $20, %ecx
3:  add -1(%edi,%ecx), %al
    loop 3b
    test %al, %al
    jz 4f
2:  add $16, %edi
    cmp $0x100000, %edi
    jb 1b
    mov $.Ls_no_rsdp-.LB, %esi
    jmp 5f
4:  mov $.Ls_rsdp-.LB, %esi
    call .Lputs
    # The MADT, as ACPI 1.0 finds it: through the RSDT, which has a 32-bit address for each table.
    mov 16(%edi), %edi
    cmpl $0x54445352, (%edi)
    jne 6f
    mov 4(%edi), %ecx
    sub $36, %ecx
    shr $2, %ecx
1:  jecxz 6f
    mov 32(%edi,%ecx,4), %eax
    dec %ecx
    cmpl $0x43495041, (%eax)
    jne 1b
    mov $.Ls_madt-.LB, %esi
5:  call .Lputs
    xor %eax, %eax
    jmp .Lexit
6:  mov $.Ls_no_madt-.LB, %esi
    jmp 5b

.Lbad_memory:
    mov $.Ls_bad_memory-.LB, %esi
    mov 8(%ebx), %eax
    call .Lshow
    mov $1, %eax
    jmp .Lexit
.Lbad_module:
    mov $.Ls_bad_module-.LB, %esi
    call .Lputs
    mov $1, %eax
    jmp .Lexit

.Ls_magic: .asciz "eax"
.Ls_flags: .asciz "vm and if"
.Ls_cr0: .asciz "paging and protection"
.Ls_limit: .asciz "limit of ds"
.Ls_a20: .asciz "below 1 MiB"
.Ls_has: .asciz "has"
.Ls_line: .asciz "command line: "
.Ls_modules: .asciz "modules"
.Ls_memory: .asciz "memory sizes and map agree\n"
.Ls_bad_memory: .asciz "memory sizes or map are wrong; KiB from 1 MiB on"
.Ls_bad_module: .asciz " not on a page of its own\n"
.Ls_rsdp: .asciz "RSDP found\n"
.Ls_madt: .asciz "MADT found\n"
.Ls_no_madt: .asciz "no MADT\n"
.Ls_no_rsdp: .asciz "no RSDP\n"
