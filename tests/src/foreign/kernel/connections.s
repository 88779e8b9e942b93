# Messages and events between all processors at once: each sends to itself, then to its neighbour, while the
# others do the same. What each found is compared on the processor that received it; the numbers of those that
# were right are printed. The SINTs end their interrupts by themselves (auto-EOI), as other test kernels' do.
#
# In long mode R15 is the processor's number and R14 its area: message page, event page, a message to be sent to
# it, and a page with its counter, the last status of a call on its connections and its stack.

.set .AREAS, 0x4C0000
.set .AREA_SHIFT, 14
.set .A_EVENTS, 0x1000
.set .A_INPUT, 0x2000
.set .A_COUNT, 0x3000
.set .A_STATUS, 0x3008
.set .A_STACK_TOP, 0x4000
.set .AUTO_EOI, 1 << 17

.code32
.Lconnections:
    call .Lload_gdt
    call .Lprepare
    call .Lhypercall_page
    mov $.IDT+0xB0*16, %edi
    call .Lcount_gate
    mov $.IDT+0xB1*16, %edi
    call .Lcount_gate
    mov $.IDT+0xCA*16, %edi
1:  call .Lcount_gate
    add $16, %edi
    cmp $.IDT+0xD0*16, %edi
    jb 1b
    mov $0xFF, %al
    out %al, $0x21
    out %al, $0xA1
    movl $.Lvp32-.LB, .Lap_next-.LB
    call .Lstart_all
    mov %ebx, .Lvps-.LB

# Every processor, in 32-bit mode.
.Lvp32:
    mov .LAPIC+0x20, %esp
    shr $24, %esp
    inc %esp
    shl $.AREA_SHIFT, %esp
    add $.AREAS, %esp
    mov %ds, %ax
    mov %ax, %ss
    call .Lpaging_on
    ljmpl $0x18, $.Lvp-.LB

# A gate at EDI that counts.
.Lcount_gate:
    mov $.Lcount_interrupt-.LB, %eax
    mov %ax, (%edi)
    movw $0x18, 2(%edi)
    movw $0x8E00, 4(%edi)
    shr $16, %eax
    mov %ax, 6(%edi)
    movl $0, 8(%edi)
    ret

.code64
.Lcount_interrupt:
    lock incl .A_COUNT(%r14)
    iretq

.Lvp:
    mov $.LAPIC, %eax
    movl $0x1FF, 0xF0(%rax)
    mov 0x20(%rax), %r15d
    shr $24, %r15d
    mov %r15d, %r14d
    shl $.AREA_SHIFT, %r14d
    add $.AREAS, %r14d
    lidt .Lidt_pointer64-.LB
    sti
    # SIMP, SIEFP, SCONTROL; SINT 8 and SINT 9.
    mov $0x40000083, %ecx
    lea 1(%r14), %eax
    call .Lwrmsr
    mov $0x40000082, %ecx
    lea .A_EVENTS+1(%r14), %eax
    call .Lwrmsr
    mov $0x40000080, %ecx
    mov $1, %eax
    call .Lwrmsr
    mov $.MESSAGES_CREATE|8|0x10<<24, %eax
    call .Lown_control
    mov $0x40000098, %ecx
    mov $0xB0|.AUTO_EOI, %eax
    call .Lwrmsr
    mov $.EVENTS_CREATE|9|0x20<<24, %eax
    call .Lown_control
    mov $0x40000099, %ecx
    mov $0xB1|.AUTO_EOI, %eax
    call .Lwrmsr
    # Connection, type, size, content of the message to this processor.
    lea 0x10(%r15), %eax
    mov %eax, .A_INPUT(%r14)
    movl $0x12345678, .A_INPUT+8(%r14)
    movl $8, .A_INPUT+12(%r14)
    mov %r15d, %eax
    shl $16, %eax
    mov %eax, .A_INPUT+16(%r14)

    # Distance to whom it sends in R12, messages that should wait in EBP.
    xor %r12d, %r12d
    xor %ebp, %ebp
    mov $.Ls_to_self-.LB, %ebx
    call .Lsend_messages
    call .Lempty_slot
    inc %r12d
    mov $.Ls_to_other-.LB, %ebx
    call .Lsend_messages
    inc %ebp
    mov $.Ls_to_busy-.LB, %ebx
    call .Lsend_messages
    xor %ebp, %ebp
    call .Lbarrier
    movl $0, .A_COUNT(%r14)
    call .Lempty_slot
    mov $.Ls_waiting-.LB, %ebx
    call .Lcheck_messages
    # Interrupts that should come in EBP.
    xor %r12d, %r12d
    inc %ebp
    mov $.Ls_signal_self-.LB, %ebx
    call .Lsend_signals
    movq $0, .A_EVENTS+9*256(%r14)
    inc %r12d
    mov $.Ls_signal_other-.LB, %ebx
    call .Lsend_signals
    xor %ebp, %ebp
    mov $.Ls_signal_again-.LB, %ebx
    call .Lsend_signals

    call .Lroutes

    mov $.MESSAGES_DESTROY|0x10<<24, %eax
    call .Lown_control
    mov $.EVENTS_DESTROY|0x20<<24, %eax
    call .Lown_control
    call .Lbarrier
    test %r15d, %r15d
    jnz .Lvp_halt
    xor %eax, %eax
    mov $.EXIT_PORT, %edx
    out %eax, %dx
.Lvp_halt:
    hlt
    jmp .Lvp_halt

# Routes to SINTs 10 to 15 of each processor, all of which its neighbour raises.
.Lroutes:
    mov $10, %ebx
1:  lea .ROUTE_CREATE(%rbx), %eax
    call .Lown_control
    lea 0x40000090(%rbx), %ecx
    lea 0xC0|.AUTO_EOI(%rbx), %eax
    call .Lwrmsr
    inc %ebx
    cmp $16, %ebx
    jb 1b
    movl $0, .A_COUNT(%r14)
    call .Lbarrier
    call .Lneighbour
    shl $8, %edx
    mov $10, %ebx
2:  lea .ROUTE_SET(%rdx,%rbx), %eax
    call .Lcontrol
    inc %ebx
    cmp $16, %ebx
    jb 2b
    call .Lbarrier
    call .Lwait
    cmpl $6, .A_COUNT(%r14)
    jne 3f
    lock incl .Lright-.LB
3:  mov $10, %ebx
4:  lea 0x40000090(%rbx), %ecx
    mov $0x100FF, %eax
    call .Lwrmsr
    lea .ROUTE_DESTROY(%rbx), %eax
    call .Lown_control
    inc %ebx
    cmp $16, %ebx
    jb 4b
    mov $.Ls_routes-.LB, %ebx
    jmp .Lwrong

# The command EAX for this processor and its connection.
.Lown_control:
    mov %r15d, %edx
    shl $8, %edx
    add %edx, %eax
    shl $16, %edx
    add %edx, %eax
    jmp .Lcontrol

.Lempty_slot:
    movl $0, 8*256(%r14)
    mfence
    mov $0x40000084, %ecx
    xor %eax, %eax
    jmp .Lwrmsr

# The area of the processor R12 further on, in RDI; its number in EDX.
.Lneighbour:
    lea (%r15,%r12), %edx
    cmp .Lvps-.LB, %edx
    jb 1f
    sub .Lvps-.LB, %edx
1:  mov %edx, %edi
    shl $.AREA_SHIFT, %edi
    add $.AREAS, %edi
    ret

# Waits for all processors.
.Lbarrier:
    mov .Lphase-.LB, %eax
    mov $1, %ecx
    lock xadd %ecx, .Larrived-.LB
    inc %ecx
    cmp .Lvps-.LB, %ecx
    jne 1f
    movl $0, .Larrived-.LB
    lock incl .Lphase-.LB
    ret
1:  pause
    cmp %eax, .Lphase-.LB
    je 1b
    ret

.Lsend_messages:
    movl $0, .A_COUNT(%r14)
    call .Lbarrier
    call .Lneighbour
    lock incl .A_INPUT+16(%rdi)
    mov $0x5C, %ecx
    lea .A_INPUT(%rdi), %edx
    xor %r8d, %r8d
    mov $.HYPERCALL, %eax
    call *%rax
    mov %eax, .A_STATUS(%rdi)
    jmp .Lcheck_messages

.Lsend_signals:
    movl $0, .A_COUNT(%r14)
    call .Lbarrier
    call .Lneighbour
    add $0x20, %edx
    mov $0x1005D, %ecx
    xor %r8d, %r8d
    mov $.HYPERCALL, %eax
    call *%rax
    mov %eax, .A_STATUS(%rdi)
    call .Lbarrier
    call .Lwait
    lea 0x20(%r15), %ecx
    xor %eax, %eax
    bts %rcx, %rax
    cmp %rax, .A_EVENTS+9*256(%r14)
    jne .Lwrong
    cmp %ebp, .A_COUNT(%r14)
    jne .Lwrong
    jmp .Lcheck_status

.Lcheck_messages:
    call .Lbarrier
    call .Lwait
    cmpl $0x12345678, 8*256(%r14)
    jne .Lwrong
    # Size 8, and the flag that one waits.
    mov %ebp, %eax
    shl $8, %eax
    or $8, %eax
    cmp %ax, 8*256+4(%r14)
    jne .Lwrong
    mov .A_INPUT+16(%r14), %eax
    sub %ebp, %eax
    cmp %eax, 8*256+16(%r14)
    jne .Lwrong
    mov $1, %eax
    sub %ebp, %eax
    cmp %eax, .A_COUNT(%r14)
    jne .Lwrong
.Lcheck_status:
    cmpl $0, .A_STATUS(%r14)
    jne .Lwrong
    lock incl .Lright-.LB
# What is not counted as right.
.Lwrong:
    call .Lbarrier
    test %r15d, %r15d
    jnz 1f
    xor %eax, %eax
    xchg %eax, .Lright-.LB
    mov %ebx, %esi
    call .Lshow64
1:  jmp .Lbarrier

.balign 4
.Lvps: .long 0
.Lphase: .long 0
.Larrived: .long 0
.Lright: .long 0
.Ls_to_self: .asciz "messages to oneself"
.Ls_to_other: .asciz "messages to another"
.Ls_to_busy: .asciz "messages to an occupied slot"
.Ls_waiting: .asciz "messages that waited"
.Ls_signal_self: .asciz "signals to oneself"
.Ls_signal_other: .asciz "signals to another"
.Ls_routes: .asciz "six routes raised by another"
.Ls_signal_again: .asciz "signals of a flag that is set"
