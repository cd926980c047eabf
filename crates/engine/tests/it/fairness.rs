//! Shares of slots over time, under tenants that always want more.

use forebay_engine::admission::{Claimant, Tenant, Turn, next};

use crate::random::Random;

/// Lets saturated tenants work for a while; gives the share of slot time of each.
fn shares(seed: u64, slots: usize, weights: &[u32]) -> Vec<f64> {
    let mut random = Random(seed);
    let mut live = vec![0_usize; weights.len()];
    // When each attempt under way ends, and whose it is.
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let (mut now, mut given) = (0_u64, 0_u64);
    let mut heads = vec![0_i64; weights.len()];
    let mut served = vec![0; weights.len()];
    let mut held = vec![0.0; weights.len()];
    while given < 20_000 {
        while ends.len() < slots {
            let tenants: Vec<Tenant> = (0..weights.len())
                .map(|tenant| Tenant {
                    claimant: Claimant {
                        live: live[tenant],
                        weight: weights[tenant],
                    },
                    served: served[tenant],
                    head: (heads[tenant], i64::try_from(tenant).unwrap()),
                })
                .collect();
            let first = next(&tenants, Turn::of(given)).unwrap();
            given += 1;
            served[first] = given;
            live[first] += 1;
            heads[first] += 1;
            ends.push((now + 1 + random.below(1000) as u64, first));
        }
        let (index, _) = ends
            .iter()
            .enumerate()
            .min_by_key(|(_, end)| **end)
            .unwrap();
        let (at, tenant) = ends.swap_remove(index);
        for (held, live) in held.iter_mut().zip(&live) {
            *held += *live as f64 * (at - now) as f64;
        }
        now = at;
        live[tenant] -= 1;
    }
    let all: f64 = held.iter().sum();
    held.into_iter().map(|held| held / all).collect()
}

#[test]
fn saturated_tenants_have_their_weights_share_within_a_tenth_or_half_a_slot() {
    let cases: [(usize, &[u32]); 6] = [
        (12, &[1, 2, 3]),
        (15, &[1, 1]),
        (15, &[1, 2]),
        (18, &[1, 2, 3]),
        (40, &[1, 3, 4, 8]),
        (200, &[5, 1, 1, 1, 1, 1]),
    ];
    for (slots, weights) in cases {
        let all: u32 = weights.iter().sum();
        for (tenant, share) in shares(7, slots, weights).into_iter().enumerate() {
            let due = f64::from(weights[tenant]) / f64::from(all);
            let off = (share - due).abs();
            // Slots are whole, so half of one is as near as it gets at a moment.
            let allowed = (due / 10.0).max(0.5 / slots as f64);
            assert!(
                off <= allowed,
                "{weights:?} at {slots}: tenant {tenant} has {share:.3} of {due:.3}"
            );
        }
    }
}

/// New tenants of the highest weight keep coming, each with nothing running: by shares alone, the
/// light one would wait for ever.
#[test]
fn nobody_starves_behind_newcomers_of_any_weight() {
    let light = |live| Tenant {
        claimant: Claimant { live, weight: 1 },
        served: 0,
        head: (0, 0),
    };
    let mut waited = 0;
    for given in 0..100 {
        let newcomers = (1..20).map(|number| Tenant {
            claimant: Claimant {
                live: 0,
                weight: 1000,
            },
            served: 0,
            head: (given * 20 + number, given * 20 + number),
        });
        let tenants: Vec<Tenant> = std::iter::once(light(0)).chain(newcomers).collect();
        if next(&tenants, Turn::of(u64::try_from(given).unwrap())) == Some(0) {
            assert!(waited < 8, "{waited}");
            waited = 0;
        } else {
            waited += 1;
        }
    }
}
