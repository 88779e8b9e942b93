# The start of the test kernel, its output, and the choice of its part by the command line's last word.
#
# Loaded and linked at 4 MiB. `.Lx-.LB` is the address of `.Lx` there, whatever the section that the
# assembler puts these bytes in.

.set .LOAD, 0x400000
.set .STACK_TOP, 0x480000
.set .COM1, 0x3F8
.set .EXIT_PORT, 0xF4

.code32
foreign_start:
.set .LB, foreign_start - .LOAD
# Multiboot header: magic, flags 0, checksum.
.long 0x1BADB002, 0, -0x1BADB002
.Lentry:
    # What the boot loader gives, before anything is touched.
    mov %eax, .Lmagic-.LB
    mov %ebx, .Linfo-.LB
    mov $.STACK_TOP, %esp
    pushf
    popl .Lflags-.LB
    cld
    # The last word of the command line.
    mov .Linfo-.LB, %ebx
    mov 16(%ebx), %esi
    mov %esi, %edi
1:  lodsb
    cmp $' ', %al
    jne 2f
    mov %esi, %edi
2:  test %al, %al
    jnz 1b
    movb (%edi), %al
    cmp $'b', %al
    je .Lboot
    cmp $'d', %al
    je .Ldevices
    cmp $'s', %al
    je .Lsmp
    cmp $'h', %al
    je .Lhyperv
    cmp $'c', %al
    je .Lconnections
    mov $.Lwhat-.LB, %esi
    call .Lputs
    mov $7, %eax
    jmp .Lexit

# Ends with the code in EAX.
.Lexit:
    mov $.EXIT_PORT, %edx
    out %eax, %dx
1:  hlt
    jmp 1b

# Prints the byte in AL.
.Lputc:
    push %edx
    push %eax
    mov $.COM1+5, %edx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %eax
    mov $.COM1, %edx
    out %al, %dx
    pop %edx
    ret

# Prints the zero-terminated text at ESI.
.Lputs:
    push %eax
1:  lodsb
    test %al, %al
    jz 2f
    call .Lputc
    jmp 1b
2:  pop %eax
    ret

# Prints the text at ESI, a blank, EAX in hexadecimal and a line end.
.Lshow:
    push %ecx
    push %eax
    call .Lputs
    mov $' ', %al
    call .Lputc
    mov $8, %ecx
1:  pop %eax
    rol $4, %eax
    push %eax
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $'a'-'9'-1, %al
2:  call .Lputc
    loop 1b
    mov $'\n', %al
    call .Lputc
    pop %eax
    pop %ecx
    ret

# Waits long enough for another thread of the monitor to act. No `pause`: software processors take it for a
# reason to do something else. The same bytes wait in long mode.
.Lwait:
    push %ecx
    mov $3000000, %ecx
1:  loop 1b
    pop %ecx
    ret

# Flat segments of our own.
.Lload_gdt:
    lgdtl .Lgdt_pointer-.LB
    ljmpl $8, $1f-.LB
1:  mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    ret

.balign 8
.Lgdt:
    .quad 0
    .quad 0x00CF9B000000FFFF
    .quad 0x00CF93000000FFFF
    .quad 0x00AF9B000000FFFF
.Lgdt_pointer:
    .word 31
    .long .Lgdt-.LB
.Lmagic: .long 0
.Linfo: .long 0
.Lflags: .long 0
.Lwhat: .asciz "the last word must be boot, devices, smp, hyperv or connections\n"
