//! What cells can do.

use forebay_exec::{CellStatus, Event, Outcome};

use crate::support::{Bench, RUNTIME};

#[test]
fn cells_run_in_order_and_show_their_values() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&["x = 20", "print('hello')\nx + 1", "# %md\n_ * 2"])
            .await;
        report.succeeded();
        assert_eq!(report.stdout(), "hello\n");
        assert_eq!(report.shown(), ["21", "42"]);
        let done = CellStatus::Succeeded;
        assert_eq!(report.statuses(), [(0, done), (1, done), (2, done)]);
        assert!(matches!(report.events[0], Event::CellStarted { cell: 0 }));
        assert_eq!(report.outcome(), &Outcome::Succeeded { exit_value: None });
    });
}
