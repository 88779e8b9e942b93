# Starts all processors as small test kernels do: code at address 0, INIT and one start-up IPI to all others,
# then a wait for as many as fw_cfg tells.

.Lsmp:
    call .Lload_gdt
    movl $.Lap_halt-.LB, .Lap_next-.LB
    call .Lstart_all
    mov $.Ls_online-.LB, %esi
    mov .Lonline-.LB, %eax
    call .Lshow
    mov $.Ls_ids-.LB, %esi
    mov .Lids-.LB, %eax
    call .Lshow
    xor %eax, %eax
    jmp .Lexit

# Starts all others, which go on at `.Lap_next`; gives the number of processors in EBX.
.Lstart_all:
    mov $.Ltrampoline-.LB, %esi
    xor %edi, %edi
    mov $.Ltrampoline_end-.Ltrampoline, %ecx
    rep movsb
    movl $0x1FF, .LAPIC+0xF0
    mov $5, %eax
    mov $2, %ecx
    call .Lfw_cfg
    shr $16, %eax
    mov %eax, %ebx
    # All but self, assert: INIT, then start-up with vector 0.
    movl $0xC4500, .LAPIC+0x300
    movl $0xC4600, .LAPIC+0x300
1:  pause
    cmp %ebx, .Lonline-.LB
    jne 1b
    ret

.code16
.Ltrampoline:
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    lgdtl .Ltrampoline_gdt-.Ltrampoline
    ljmpl $8, $.Lap-.LB
.Ltrampoline_gdt:
    .word 31
    .long .Lgdt-.LB
.Ltrampoline_end:

.code32
.Lap:
    mov $0x10, %ax
    mov %ax, %ds
    mov .LAPIC+0x20, %eax
    shr $24, %eax
    lock btsl %eax, .Lids-.LB
    lock incl .Lonline-.LB
    jmp *.Lap_next-.LB
.Lap_halt:
    hlt
    jmp .Lap_halt

.balign 4
.Lonline: .long 1
.Lids: .long 1
.Lap_next: .long 0
.Ls_online: .asciz "processors online"
.Ls_ids: .asciz "APIC ids"
