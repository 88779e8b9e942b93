# fw_cfg, the ports and the memory that keep what is written, and interrupts by lines of our own.

.set .LAPIC, 0xFEE00000
.set .IOAPIC, 0xFEC00000
.set .IDT, 0x490000

.Ldevices:
    call .Lload_gdt
    # fw_cfg: signature, lower half of the RAM size, and the number of processors with zeros behind it.
    xor %eax, %eax
    mov $4, %ecx
    call .Lfw_cfg
    mov $.Ls_fw_signature-.LB, %esi
    call .Lshow
    mov $3, %eax
    mov $4, %ecx
    call .Lfw_cfg
    mov $.Ls_fw_ram-.LB, %esi
    call .Lshow
    mov $5, %eax
    mov $4, %ecx
    call .Lfw_cfg
    mov $.Ls_fw_cpus-.LB, %esi
    call .Lshow

    # Ports 0xE0 to 0xE3.
    mov $0x44332211, %eax
    out %eax, $0xE0
    mov $0x99, %al
    out %al, $0xE2
    xor %eax, %eax
    in $0xE1, %al
    shl $8, %eax
    in $0xE3, %al
    mov $.Ls_ports-.LB, %esi
    call .Lshow
    in $0xE0, %eax
    call .Lshow_again

    # Memory at 0xFF000000.
    movl $0x8899AABB, 0xFF000010
    movb $0x77, 0xFF000011
    mov 0xFF000010, %eax
    mov $.Ls_memory_device-.LB, %esi
    call .Lshow
    movzwl 0xFF00FFFE, %eax
    call .Lshow_again

    # Interrupts: gates for 0x77 and 0x78, the PICs masked, the APIC on.
    mov $.Ledge-.LB, %eax
    mov $.IDT+0x77*8, %edi
    call .Lgate
    mov $.Llevel-.LB, %eax
    mov $.IDT+0x78*8, %edi
    call .Lgate
    lidtl .Lidt_pointer-.LB
    mov $0xFF, %al
    out %al, $0x21
    out %al, $0xA1
    movl $0x1FF, .LAPIC+0xF0
    movl $0, .LAPIC+0x80
    sti

    # Line 14, edge-triggered: one interrupt for each rise.
    mov $0x77, %eax
    call .Lredirect
    mov $0x200E, %edx
    mov $1, %al
    out %al, %dx
    call .Lwait
    xor %al, %al
    out %al, %dx
    call .Lwait
    mov .Lcount-.LB, %eax
    mov $.Ls_edge-.LB, %esi
    call .Lshow
    mov $1, %al
    out %al, %dx
    call .Lwait
    xor %al, %al
    out %al, %dx
    mov .Lcount-.LB, %eax
    call .Lshow_again

    # Line 14, level-triggered: again after each EOI until the handler lowers the line.
    movl $0, .Lcount-.LB
    mov $0x8078, %eax
    call .Lredirect
    mov $1, %al
    out %al, %dx
    call .Lwait
    mov .Lcount-.LB, %eax
    mov $.Ls_level-.LB, %esi
    call .Lshow
    xor %eax, %eax
    jmp .Lexit

# Prints EAX with the text that was last used for it.
.Lshow_again:
    mov $.Ls_again-.LB, %esi
    jmp .Lshow

# The last four of ECX bytes of the item EAX; fewer than four come in EAX's upper bytes.
.Lfw_cfg:
    push %edx
    push %ebx
    mov $0x510, %edx
    out %ax, %dx
    inc %edx
    xor %ebx, %ebx
1:  in %dx, %al
    mov %al, %bl
    ror $8, %ebx
    loop 1b
    mov %ebx, %eax
    pop %ebx
    pop %edx
    ret

# An interrupt gate at EDI for the code at EAX.
.Lgate:
    mov %ax, (%edi)
    movw $8, 2(%edi)
    movw $0x8E00, 4(%edi)
    shr $16, %eax
    mov %ax, 6(%edi)
    ret

# The low word of the redirection entry of line 14; the high word is 0: processor 0.
.Lredirect:
    movl $0x10+14*2+1, .IOAPIC
    movl $0, .IOAPIC+0x10
    movl $0x10+14*2, .IOAPIC
    mov %eax, .IOAPIC+0x10
    ret

.Ledge:
    lock incl .Lcount-.LB
    movl $0, .LAPIC+0xB0
    iretl

.Llevel:
    push %eax
    push %edx
    lock incl .Lcount-.LB
    cmpl $3, .Lcount-.LB
    jb 1f
    mov $0x200E, %edx
    xor %al, %al
    out %al, %dx
1:  movl $0, .LAPIC+0xB0
    pop %edx
    pop %eax
    iretl

.Lidt_pointer:
    .word 0x7FF
    .long .IDT
.balign 4
.Lcount: .long 0
.Ls_fw_signature: .asciz "fw_cfg signature"
.Ls_fw_ram: .asciz "fw_cfg RAM size"
.Ls_fw_cpus: .asciz "fw_cfg processors"
.Ls_ports: .asciz "ports"
.Ls_memory_device: .asciz "memory"
.Ls_edge: .asciz "edges"
.Ls_level: .asciz "level"
.Ls_again: .asciz " and then"
