use std::panic::catch_unwind;

use clap::Args;
use forebay_testkit::{Simulated, simulate};

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// How many histories
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
}

/// Ends with exit code 1 and the seeds that went wrong, when any did.
pub(crate) fn run(args: &SimulateArgs) {
    let mut all = Simulated::default();
    let (mut bad, mut full) = (Vec::new(), 0);
    for seed in args.from..args.from + args.seeds {
        match catch_unwind(|| simulate(seed)) {
            Ok(one) => {
                all.runs += one.runs;
                all.crashes += one.crashes;
                all.starts += one.starts;
                full += usize::from(one.peak.0 == one.peak.1);
            }
            Err(_) => {
                eprintln!("seed {seed} went wrong, see above");
                bad.push(seed);
            }
        }
        if (seed - args.from + 1).is_multiple_of(500) {
            eprintln!("{} histories", seed - args.from + 1);
        }
    }
    println!(
        "{} histories: {} runs, {} processes, {} crashes; the cap was reached in {full} and \
         passed in none of the good ones",
        args.seeds, all.runs, all.starts, all.crashes
    );
    if !bad.is_empty() {
        println!("wrong: {bad:?}");
        std::process::exit(1);
    }
}
