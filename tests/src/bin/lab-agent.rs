//! The lab's agent as a program of its own: for tests and for programs that cannot be process 1.

fn main() {
    tests::lab::agent::become_agent_if_asked();
    eprintln!("lab-agent: this runs as process 1 of the lab, nowhere else");
    std::process::exit(2);
}
