//! The guests: 64-bit code, entered with memory identity-mapped, a small stack, interrupts off.
//!
//! Port 0xE00 is the console buffer's, 0xE04 exit, 0xE08 mark (`hv_abi::host`).
#![expect(unsafe_code, reason = "reads the guests' code from this program's own image")]

/// Declares a function that gives the code between two labels.
macro_rules! guest {
    ($name:ident: $start:ident $end:ident $($code:literal)*) => {
        core::arch::global_asm!(
            ".pushsection .rodata.guests,\"a\",@progbits",
            concat!(".globl ", stringify!($start), ", ", stringify!($end)),
            concat!(stringify!($start), ":"),
            $($code,)*
            concat!(stringify!($end), ":"),
            ".popsection",
            options(att_syntax),
        );

        pub(crate) fn $name() -> &'static [u8] {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let (start, end) = (&raw const $start, &raw const $end);
            let bytes = end.addr() - start.addr();
            // SAFETY: the assembler put so many bytes between the two labels, into read-only data.
            unsafe { core::slice::from_raw_parts(start, bytes) }
        }
    };
}

/// A guest that may make hypercalls: identity, and the hypercall page at 4 MiB, which R12 holds.
macro_rules! caller {
    ($name:ident: $start:ident $end:ident $($code:literal)*) => {
        guest! { $name: $start $end
            "mov $0x40000000, %ecx"
            "mov $0x8100, %edx"
            "mov $1, %eax"
            "wrmsr"
            "mov $0x40000001, %ecx"
            "xor %edx, %edx"
            "mov $0x400001, %eax"
            "wrmsr"
            "mov $0x400000, %r12d"
            $($code)*
        }
    };
}

guest! { exit_42: g1_start g1_end
    "mov $0xE04, %edx"
    "mov $42, %eax"
    "out %eax, %dx"
}

// SLP_TYP 5 and SLP_EN into the sleep control register.
guest! { acpi_off: g2_start g2_end
    "mov $0x600, %edx"
    "mov $0x34, %al"
    "out %al, %dx"
}

guest! { keyboard_reset: g3_start g3_end
    "mov $0xFE, %al"
    "out %al, $0x64"
    "1: jmp 1b"
}

// HV_X64_MSR_RESET, bit 0.
guest! { hyperv_reset: g4_start g4_end
    "mov $0x40000003, %ecx"
    "mov $1, %eax"
    "xor %edx, %edx"
    "wrmsr"
    "1: jmp 1b"
}

guest! { print_both_ways: g5_start g5_end
    "lea 2f(%rip), %rsi"
    "mov $5, %ecx"
    "mov $0x3F8, %edx"
    "rep outsb"
    "lea 3f(%rip), %rax"
    "mov $0xE00, %edx"
    "out %eax, %dx"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
    "2: .ascii \"uart\\n\""
    "3: .long 15"
    ".ascii \"console buffer\\n\""
}

// A length that leaves RAM, one that is too large, and addresses outside RAM (8 MiB).
guest! { bad_console_buffers: g6_start g6_end
    "mov $0xE00, %edx"
    "movl $0x1000, 0x7FFFF0"
    "mov $0x7FFFF0, %eax"
    "out %eax, %dx"
    "movl $0x10001, 0x400000"
    "mov $0x400000, %eax"
    "out %eax, %dx"
    "movl $-1, 0x400000"
    "out %eax, %dx"
    "mov $0x7FFFFE, %eax"
    "out %eax, %dx"
    "mov $0xFEC00000, %eax"
    "out %eax, %dx"
    "mov $-1, %eax"
    "out %eax, %dx"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
}

// 100 fast calls of HvCallNotifyLongSpinWait. The first status
// that is not success is the exit code.
caller! { spin_100_times: g7_start g7_end
    "mov $100, %ebx"
    "1: mov $0x10008, %ecx"
    "mov $4095, %edx"
    "mov $-1, %rax"
    "call *%r12"
    "test %rax, %rax"
    "jnz 2f"
    "dec %ebx"
    "jnz 1b"
    "2: mov $0xE04, %edx"
    "out %eax, %dx"
}

// As above; each status goes to the UART.
caller! { malformed_calls: g8_start g8_end
    "mov $0x18010008, %rcx"
    "call 3f"
    "mov $0x100010008, %rcx"
    "call 3f"
    "mov $0x1007F, %rcx"
    "call 3f"
    "mov $0x1005D, %rcx"
    "call 3f"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
    "3: mov $1, %edx"
    "mov $-1, %rax"
    "call *%r12"
    "mov $0x3F8, %edx"
    "out %al, %dx"
    "ret"
}

// A page with a pattern must show code while it is the hypercall page, and the pattern after.
guest! { overlay: g9_start g9_end
    "mov $0x400000, %edi"
    "mov $0x5A, %al"
    "mov $4096, %ecx"
    "rep stosb"
    "mov $0x40000000, %ecx"
    "mov $0x8100, %edx"
    "mov $1, %eax"
    "wrmsr"
    "mov $0x40000001, %ecx"
    "xor %edx, %edx"
    "mov $0x400001, %eax"
    "wrmsr"
    "rdmsr"
    "cmp $0x400001, %eax"
    "mov $1, %ebx"
    "jne 9f"
    "cmpb $0x5A, 0x400000"
    "mov $2, %ebx"
    "je 9f"
    "mov $0x400000, %eax"
    "wrmsr"
    "mov $0x400000, %edi"
    "mov $0x5A, %al"
    "mov $4096, %ecx"
    "repe scasb"
    "mov $3, %ebx"
    "jne 9f"
    "xor %ebx, %ebx"
    "9: mov %ebx, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

// An interrupt gate for vector 13 at 5 MiB, then a page at 1 GiB, where no RAM is.
guest! { page_outside_ram: g10_start g10_end
    "lea 8f(%rip), %rax"
    "mov %ax, 0x5000D0"
    "movw $0x10, 0x5000D2"
    "movw $0x8E00, 0x5000D4"
    "shr $16, %rax"
    "mov %ax, 0x5000D6"
    "movq $0, 0x5000D8"
    "lidt 7f(%rip)"
    "mov $0x40000000, %ecx"
    "mov $0x8100, %edx"
    "mov $1, %eax"
    "wrmsr"
    "mov $0x40000001, %ecx"
    "xor %edx, %edx"
    "mov $0x40000001, %eax"
    "wrmsr"
    "xor %eax, %eax"
    "jmp 9f"
    "8: mov $13, %eax"
    "9: mov $0xE04, %edx"
    "out %eax, %dx"
    "7: .word 0xFF"
    ".quad 0x500000"
}

guest! { triple_fault: g11_start g11_end
    "mov $0x12345678, %ebx"
    "in $0x64, %al"
    "ud2"
}

guest! { spin_forever: g12_start g12_end
    "1: jmp 1b"
}

guest! { halt_forever: g13_start g13_end
    "1: hlt"
    "jmp 1b"
}

// EBX, ECX and EDX of the first leaf of both ranges, to the UART.
guest! { print_signatures: g14_start g14_end
    "mov $0x40000000, %eax"
    "call 2f"
    "mov $0x40000100, %eax"
    "call 2f"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
    "2: cpuid"
    "mov %ebx, 0x400000"
    "mov %ecx, 0x400004"
    "mov %edx, 0x400008"
    "mov $0x400000, %esi"
    "mov $12, %ecx"
    "mov $0x3F8, %edx"
    "rep outsb"
    "ret"
}

guest! { two_marks: g15_start g15_end
    "mov $0xE08, %edx"
    "mov $2, %eax"
    "out %eax, %dx"
    "mov $10, %ecx"
    "1: out %al, $0x70"
    "loop 1b"
    "mov $3, %eax"
    "out %eax, %dx"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
}

// Port 0x333, and 1 GiB: the exit code is 0 if both read as ones.
guest! { read_nothing: g16_start g16_end
    "mov $0x333, %edx"
    "in %dx, %eax"
    "mov 0x40000000, %ebx"
    "and %ebx, %eax"
    "not %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

/// Declares a guest that reads an MSR: exit code 13 if that is a protection fault, else 0.
macro_rules! read_msr {
    ($name:ident: $start:ident $end:ident $msr:literal) => {
        guest! { $name: $start $end
            // An interrupt gate for vector 13 at 5 MiB.
            "lea 8f(%rip), %rax"
            "mov %ax, 0x5000D0"
            "movw $0x10, 0x5000D2"
            "movw $0x8E00, 0x5000D4"
            "shr $16, %rax"
            "mov %ax, 0x5000D6"
            "movq $0, 0x5000D8"
            "lidt 7f(%rip)"
            $msr
            "rdmsr"
            "xor %eax, %eax"
            "jmp 9f"
            "8: mov $13, %eax"
            "9: mov $0xE04, %edx"
            "out %eax, %dx"
            "7: .word 0xFF"
            ".quad 0x500000"
        }
    };
}

read_msr! { read_guest_os_id: g17_start g17_end "mov $0x40000000, %ecx" }
read_msr! { read_scontrol: g18_start g18_end "mov $0x40000080, %ecx" }
read_msr! { read_crash_control: g19_start g19_end "mov $0x40000105, %ecx" }
read_msr! { read_guest_idle: g20_start g20_end "mov $0x400000F0, %ecx" }
read_msr! { read_vp_index: g21_start g21_end "mov $0x40000002, %ecx" }

// APIC on (spurious vector register), a fixed IPI to itself with vector 0x41, idle with interrupts masked.
// The exit code is 0 if the vector is in the request register.
guest! { idle_with_own_ipi: g22_start g22_end
    "mov $0xFEE00000, %edi"
    "movl $0x1FF, 0xF0(%rdi)"
    "movl $0x44041, 0x300(%rdi)"
    "mov $0x400000F0, %ecx"
    "rdmsr"
    "mov 0x220(%rdi), %eax"
    "xor $2, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

// The APIC's timer, one-shot, divided by 1, after a million ticks (1 ms in KVM), vector 0x41.
guest! { idle_until_timer: g23_start g23_end
    "mov $0xFEE00000, %edi"
    "movl $0x1FF, 0xF0(%rdi)"
    "movl $0xB, 0x3E0(%rdi)"
    "movl $0x41, 0x320(%rdi)"
    "movl $1000000, 0x380(%rdi)"
    "1: mov $0x400000F0, %ecx"
    "rdmsr"
    "testl $2, 0x220(%rdi)"
    "jz 1b"
    "xor %eax, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

// Synthetic timer 0 in direct mode with vector 0x41, 1 ms after now by the reference counter.
guest! { idle_until_synthetic_timer: g24_start g24_end
    "mov $0xFEE00000, %edi"
    "movl $0x1FF, 0xF0(%rdi)"
    "mov $0x400000B0, %ecx"
    "mov $0x1419, %eax"
    "xor %edx, %edx"
    "wrmsr"
    "mov $0x40000020, %ecx"
    "rdmsr"
    "add $10000, %eax"
    "adc $0, %edx"
    "mov $0x400000B1, %ecx"
    "wrmsr"
    "1: mov $0x400000F0, %ecx"
    "rdmsr"
    "testl $2, 0x220(%rdi)"
    "jz 1b"
    "xor %eax, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

// The same, and then a halt with interrupts masked, which nothing may end.
guest! { idle_then_halt: g29_start g29_end
    "mov $0xFEE00000, %edi"
    "movl $0x1FF, 0xF0(%rdi)"
    "mov $0x400000B0, %ecx"
    "mov $0x1419, %eax"
    "xor %edx, %edx"
    "wrmsr"
    "mov $0x40000020, %ecx"
    "rdmsr"
    "add $10000, %eax"
    "adc $0, %edx"
    "mov $0x400000B1, %ecx"
    "wrmsr"
    "1: mov $0x400000F0, %ecx"
    "rdmsr"
    "testl $2, 0x220(%rdi)"
    "jz 1b"
    "hlt"
    "mov $7, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

// The APIC's timer after half a second, with interrupts on while the VP idles; its handler ends the machine.
guest! { idle_with_interrupts: g25_start g25_end
    "lea 8f(%rip), %rax"
    "mov %ax, 0x500410"
    "movw $0x10, 0x500412"
    "movw $0x8E00, 0x500414"
    "shr $16, %rax"
    "mov %ax, 0x500416"
    "movq $0, 0x500418"
    "lidt 7f(%rip)"
    "mov $0xFEE00000, %edi"
    "movl $0x1FF, 0xF0(%rdi)"
    "movl $0xB, 0x3E0(%rdi)"
    "movl $0x41, 0x320(%rdi)"
    "movl $500000000, 0x380(%rdi)"
    "mov $0x400000F0, %ecx"
    "sti"
    "rdmsr"
    "mov $1, %eax"
    "jmp 9f"
    "8: xor %eax, %eax"
    "9: mov $0xE04, %edx"
    "out %eax, %dx"
    "7: .word 0x41F"
    ".quad 0x500000"
}

/// Declares a guest that tells a crash with a message, and then does something.
macro_rules! crash {
    ($name:ident: $start:ident $end:ident $($then:literal)*) => {
        guest! { $name: $start $end
            "mov $0x400000, %edi"
            "movl $0x6B6F7262, (%rdi)"
            "movw $0x6E65, 4(%rdi)"
            "mov $0x40000100, %ecx"
            "xor %edx, %edx"
            "mov $0x11, %eax"
            "1: wrmsr"
            "inc %ecx"
            "add $0x11, %eax"
            "cmp $0x40000103, %ecx"
            "jne 1b"
            "mov $0x400000, %eax"
            "wrmsr"
            "inc %ecx"
            "mov $6, %eax"
            "wrmsr"
            "inc %ecx"
            "xor %eax, %eax"
            "mov $0xC0000000, %edx"
            "wrmsr"
            $($then)*
        }
    };
}

crash! { crash_and_exit: g26_start g26_end
    "mov $3, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}

crash! { crash_and_halt: g27_start g27_end
    "2: hlt"
    "jmp 2b"
}

// Each status goes to the UART, then the first byte of the output page.
caller! { extended_calls: g28_start g28_end
    "mov $0x500000, %r8d"
    "movb $0, (%r8)"
    "mov $0x8001, %ecx"
    "call 3f"
    "mov (%r8), %bl"
    "mov $0x8002, %ecx"
    "call 3f"
    "mov $0x8003, %ecx"
    "call 3f"
    "mov $0x18001, %ecx"
    "call 3f"
    "mov %bl, %al"
    "out %al, %dx"
    "xor %eax, %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
    "3: xor %edx, %edx"
    "mov $-1, %rax"
    "call *%r12"
    "mov $0x3F8, %edx"
    "out %al, %dx"
    "ret"
}

// The same in 32-bit mode: 0 to the port of isa-debug-exit if the magic number is Multiboot's, else 1.
guest! { multiboot_magic: g40_start g40_end
    "cmp $0x2BADB002, %eax"
    "setne %al"
    "movzbl %al, %eax"
    "out %eax, $0xF4"
}

// Four hundred commands from a generator (xorshift) to the SynIC's device, the interrupt lines and fw_cfg, of
// all widths. Bits that would name VPs, sources and connections far out of range are mostly cleared.
guest! { nonsense_to_test_devices: g41_start g41_end
    "mov $0x12345678, %ebx"
    "mov $400, %r12d"
    "1: mov %ebx, %eax"
    "shl $13, %eax"
    "xor %eax, %ebx"
    "mov %ebx, %eax"
    "shr $17, %eax"
    "xor %eax, %ebx"
    "mov %ebx, %eax"
    "shl $5, %eax"
    "xor %eax, %ebx"
    "mov %ebx, %eax"
    "and $0x0F0F011F, %eax"
    "mov $0x3000, %edx"
    "out %eax, %dx"
    "in %dx, %eax"
    "mov %ebx, %edx"
    "and $31, %edx"
    "add $0x2000, %edx"
    "mov %ebx, %eax"
    "shr $7, %eax"
    "out %al, %dx"
    "out %ax, %dx"
    "mov $0x510, %edx"
    "out %ax, %dx"
    "inc %edx"
    "in %dx, %al"
    "in %dx, %eax"
    "out %eax, %dx"
    "mov %ebx, %eax"
    "and $0xFFFF, %eax"
    "add $0xFEFFFFF8, %eax"
    "mov %rbx, (%rax)"
    "mov (%rax), %rax"
    "dec %r12d"
    "jnz 1b"
    "mov $0xE04, %edx"
    "xor %eax, %eax"
    "out %eax, %dx"
}

// Ports and memory of the test kernels' devices: the exit code is 0 if all read as ones.
guest! { read_test_devices: g42_start g42_end
    "mov $-1, %ebx"
    "mov $0x511, %edx"
    "in %dx, %eax"
    "and %eax, %ebx"
    "mov $0x2000, %edx"
    "in %dx, %eax"
    "and %eax, %ebx"
    "mov $0x3000, %edx"
    "in %dx, %eax"
    "and %eax, %ebx"
    "in $0xE0, %eax"
    "and %eax, %ebx"
    "mov $0xFF000000, %eax"
    "and (%rax), %ebx"
    "mov %ebx, %eax"
    "not %eax"
    "mov $0xE04, %edx"
    "out %eax, %dx"
}
