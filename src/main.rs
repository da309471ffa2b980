//! The `tidewire` program.

fn main() -> std::process::ExitCode {
    tidewire::cli::main()
}
