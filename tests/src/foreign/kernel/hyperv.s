# The SynIC with the help of the device at port 0x3000, in long mode: SINT routes, and connections for
# messages and events. Every status, slot and count of interrupts is printed.

.set .PML4, 0x4A0000
.set .HYPERCALL, 0x4B0000
.set .SIMP, 0x4B1000
.set .SIEFP, 0x4B2000
.set .INPUT, 0x4B3000
# Device commands: shifted to where they belong in what is written.
.set .ROUTE_CREATE, 1 << 16
.set .ROUTE_DESTROY, 2 << 16
.set .ROUTE_SET, 3 << 16
.set .MESSAGES_CREATE, 4 << 16
.set .MESSAGES_DESTROY, 5 << 16
.set .EVENTS_CREATE, 6 << 16
.set .EVENTS_DESTROY, 7 << 16
# The message slot of SINT 8 and the flags of SINT 9.
.set .SLOT, .SIMP + 8*256
.set .FLAGS, .SIEFP + 9*256

.Lhyperv:
    call .Lload_gdt
    call .Lprepare
    # In 32-bit mode a call takes its input in EDX:EAX, EBX:ECX and EDI:ESI, and gives its result in EDX:EAX.
    # CX is parameter there, and here what would be the code of an extended call in long mode.
    call .Lhypercall_page
    mov $0x1005D, %eax
    xor %edx, %edx
    xor %ebx, %ebx
    mov $0x9234, %ecx
    xor %esi, %esi
    xor %edi, %edi
    push %ebp
    mov $.HYPERCALL, %ebp
    call *%ebp
    pop %ebp
    mov $.Ls_signal32-.LB, %esi
    call .Lshow
    call .Lpaging_on
    ljmpl $0x18, $.Llong-.LB

# Ends if there is no SynIC; else writes page tables that map the low 4 GiB by large pages.
.Lprepare:
    mov $0x40000001, %eax
    cpuid
    cmp $0x31237648, %eax
    jne .Lno_hyperv
    mov $0x40000003, %eax
    cpuid
    # SynIC registers, hypercall registers.
    and $0x24, %eax
    cmp $0x24, %eax
    jne .Lno_hyperv
    movl $.PML4+0x1007, .PML4
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $12, %eax
    add $.PML4+0x2007, %eax
    mov %eax, .PML4+0x1000(,%ecx,8)
    inc %ecx
    cmp $4, %ecx
    jb 1b
    xor %ecx, %ecx
2:  mov %ecx, %eax
    shl $21, %eax
    or $0x87, %eax
    mov %eax, .PML4+0x2000(,%ecx,8)
    inc %ecx
    cmp $2048, %ecx
    jb 2b
    ret

# Long mode, up to the jump that enters its code.
.Lpaging_on:
    mov $0x20, %eax
    mov %eax, %cr4
    mov $.PML4, %eax
    mov %eax, %cr3
    mov $0xC0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000001, %eax
    mov %eax, %cr0
    ret

.Lno_hyperv:
    mov $.Ls_no_hyperv-.LB, %esi
    call .Lputs
    xor %eax, %eax
    jmp .Lexit

.code64
.Llong:
    # Vectors 0x90 (SINT 5), 0xB0 (SINT 8) and 0xB1 (SINT 9).
    mov $.Linterrupt-.LB, %eax
    mov $.IDT+0x90*16, %edi
    call .Lgate64
    mov $.IDT+0xB0*16, %edi
    call .Lgate64
    mov $.IDT+0xB1*16, %edi
    call .Lgate64
    lidt .Lidt_pointer64-.LB
    mov $0xFF, %al
    out %al, $0x21
    out %al, $0xA1
    mov $.LAPIC, %eax
    movl $0x1FF, 0xF0(%rax)
    sti
    # Message page, event page, SynIC on.
    xor %edx, %edx
    mov $0x40000083, %ecx
    mov $.SIMP+1, %eax
    wrmsr
    mov $0x40000082, %ecx
    mov $.SIEFP+1, %eax
    wrmsr
    mov $0x40000080, %ecx
    mov $1, %eax
    wrmsr

    # Connections that do not exist.
    mov $0x1234, %edx
    call .Lsignal
    movl $0x1234, .INPUT
    movl $1, .INPUT+8
    movl $8, .INPUT+12
    movq $0x100, .INPUT+16
    call .Lpost

    # SINT 5 by a route.
    mov $.ROUTE_CREATE+5, %eax
    call .Lcontrol
    mov $0x40000095, %ecx
    mov $0x90, %eax
    call .Lwrmsr
    mov $.ROUTE_SET+5, %eax
    call .Lcontrol
    call .Linterrupts
    mov $0x40000095, %ecx
    mov $0x10090, %eax
    call .Lwrmsr
    mov $.ROUTE_DESTROY+5, %eax
    call .Lcontrol

    # Messages: connection 0x10, SINT 8.
    mov $0x10<<24|.MESSAGES_CREATE|8, %eax
    call .Lcontrol
    mov $0x40000098, %ecx
    mov $0xB0, %eax
    call .Lwrmsr
    movl $0x10, .INPUT
    movl $0x12345678, .INPUT+8
    call .Lpost
    call .Lslot
    # The slot is occupied: one message waits, the next has no room. It has the same content, because QEMU's
    # device keeps its content although it refuses it.
    incl .INPUT+16
    call .Lpost
    call .Lslot
    call .Lpost
    call .Lslot
    call .Lend_of_message
    call .Lslot
    call .Lend_of_message
    call .Lslot
    incl .INPUT+16
    call .Lpost
    call .Lslot
    call .Lend_of_message
    mov $0x10<<24|.MESSAGES_DESTROY, %eax
    call .Lcontrol
    call .Lpost
    call .Lslot

    # Events: connection 0x20, SINT 9.
    mov $0x20<<24|.EVENTS_CREATE|9, %eax
    call .Lcontrol
    mov $0x40000099, %ecx
    mov $0xB1, %eax
    call .Lwrmsr
    mov $0x20, %edx
    call .Lsignal
    call .Lshow_flags
    call .Lsignal
    call .Lshow_flags
    movq $0, .FLAGS
    call .Lsignal
    call .Lshow_flags
    mov $0x20<<24|.EVENTS_DESTROY, %eax
    call .Lcontrol
    call .Lsignal
    xor %eax, %eax
    mov $.EXIT_PORT, %edx
    out %eax, %dx

# HvCallSignalEvent, fast, on the connection in EDX; prints the status.
.Lsignal:
    push %rdx
    mov $0x1005D, %ecx
    mov $.Ls_signal-.LB, %esi
    jmp 1f
# HvCallPostMessage; prints the status.
.Lpost:
    push %rdx
    mov $0x5C, %ecx
    mov $.INPUT, %edx
    mov $.Ls_post-.LB, %esi
1:  xor %r8d, %r8d
    mov $.HYPERCALL, %eax
    call *%rax
    call .Lshow64
    pop %rdx
    ret

.Lslot:
    call .Linterrupts
    mov .SLOT, %eax
    mov $.Ls_slot-.LB, %esi
    call .Lshow64
    # Size and flags.
    movzwl .SLOT+4, %eax
    mov $.Ls_size-.LB, %esi
    call .Lshow64
    mov .SLOT+16, %eax
    mov $.Ls_payload-.LB, %esi
    jmp .Lshow64

.Lend_of_message:
    movl $0, .SLOT
    mfence
    mov $0x40000084, %ecx
    xor %eax, %eax
    jmp .Lwrmsr

.Lshow_flags:
    call .Linterrupts
    mov .FLAGS+4, %eax
    mov $.Ls_flag-.LB, %esi
    jmp .Lshow64

# Prints how many interrupts came, after a while, and counts from 0 again.
.Linterrupts:
    call .Lwait
    xor %eax, %eax
    xchg %eax, .Lcount64-.LB
    mov $.Ls_interrupts-.LB, %esi
    jmp .Lshow64

# Identity and hypercall page. The same bytes do so in 32-bit mode.
.Lhypercall_page:
    mov $0x40000000, %ecx
    mov $0x8F000000, %edx
    xor %eax, %eax
    wrmsr
    xor %edx, %edx
    mov $0x40000001, %ecx
    mov $.HYPERCALL+1, %eax
    wrmsr
    ret

# EAX to the device.
.Lcontrol:
    push %rdx
    mov $0x3000, %edx
    out %eax, %dx
    pop %rdx
    ret

.Lwrmsr:
    push %rdx
    xor %edx, %edx
    wrmsr
    pop %rdx
    ret

# A gate at EDI for the code at EAX.
.Lgate64:
    mov %ax, (%rdi)
    movw $0x18, 2(%rdi)
    movw $0x8E00, 4(%rdi)
    movl $0, 8(%rdi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%rdi)
    ret

.Linterrupt:
    lock incl .Lcount64-.LB
    push %rax
    mov $.LAPIC, %eax
    movl $0, 0xB0(%rax)
    pop %rax
    iretq

# `.Lshow` in long mode.
.Lshow64:
    push %rcx
    push %rdx
    push %rax
1:  lodsb
    test %al, %al
    jz 2f
    call .Lputc64
    jmp 1b
2:  mov $' ', %al
    call .Lputc64
    mov $8, %ecx
3:  roll $4, (%rsp)
    mov (%rsp), %eax
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 4f
    add $'a'-'9'-1, %al
4:  call .Lputc64
    loop 3b
    mov $'\n', %al
    call .Lputc64
    pop %rax
    pop %rdx
    pop %rcx
    ret

.Lputc64:
    mov $.COM1, %edx
    out %al, %dx
    ret

.Lidt_pointer64:
    .word 0xFFF
    .quad .IDT
.balign 4
.Lcount64: .long 0
.Ls_no_hyperv: .asciz "no SynIC\n"
.Ls_signal: .asciz "signal"
.Ls_signal32: .asciz "signal in 32-bit mode"
.Ls_post: .asciz "post"
.Ls_interrupts: .asciz "interrupts"
.Ls_slot: .asciz " slot"
.Ls_size: .asciz " size and flags"
.Ls_payload: .asciz " payload"
.Ls_flag: .asciz " flags 32 to 63"
