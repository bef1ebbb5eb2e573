//! The `operator` program.

fn main() -> anyhow::Result<()> {
    operator::cli::run()
}
