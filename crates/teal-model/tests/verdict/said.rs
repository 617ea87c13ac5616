use teal_model::verdict::{Counts, Part, Reason, Warning};

fn reason(part: Part, evidence: f64) -> Reason {
    let (candidate, live) = (Counts { n: 1_204, bad: 41 }, Counts { n: 1_198, bad: 1 });
    Reason { part, candidate, live, over_ms: 4_100, evidence }
}

#[test]
fn a_reason_is_said_in_numbers() {
    assert_eq!(
        reason(Part::Errors, 1_930.0).words("green", "blue"),
        "green failed 41 of 1,204 requests, blue 1 of 1,198; chance of that among equals less than 1 in 1,000"
    );
    assert_eq!(
        reason(Part::History { usual: 0.0012 }, 104.0).words("green", "blue"),
        "green failed 41 of 1,204 requests, where 0.12 % is usual; chance of that among equals less than 1 in 100"
    );
    assert_eq!(
        reason(Part::NoHistory { supposed: 0.1 }, 104.0).words("green", "blue"),
        "green failed 41 of 1,204 requests, where not even 10 % could be usual; \
         chance of that among equals less than 1 in 100"
    );
    assert_eq!(
        reason(Part::Slow { percentile: 99, candidate_us: 1_260_000, live_us: 999_423 }, 5e8).words("green", "blue"),
        "green took longer than 1,260 ms for 41 of 1,204 requests, blue longer than 1,000 ms for 1 of 1,198; \
         chance of that among equals less than 1 in 1,000,000"
    );
}

#[test]
fn first_evidence_is_told_without_a_chance() {
    assert_eq!(
        reason(Part::Errors, 1_930.0).counted("green (web 8)", "blue (web 7)"),
        "green (web 8) failed 41 of 1,204 requests, blue (web 7) 1 of 1,198"
    );
}

#[test]
fn warnings_say_what_to_look_at() {
    let both = Warning::BothFail { candidate: Counts { n: 20, bad: 19 }, live: Counts { n: 2_000, bad: 1_900 } };
    assert_eq!(
        both.words("green", "blue"),
        "both fail, green 19 of 20 requests and blue 1,900 of 2,000: is something down that both depend on?"
    );
    let gone = Warning::LiveGone { why: None };
    assert_eq!(gone.words("green", "blue"), "blue is gone: nothing is left to compare green with");
}

#[test]
fn a_reason_can_be_kept() {
    let slow = Part::Slow { percentile: 95, candidate_us: 2, live_us: 1 };
    for part in [Part::Errors, Part::History { usual: 0.5 }, Part::NoHistory { supposed: 0.1 }, slow] {
        let kept = serde_json::to_string(&reason(part, 1e9)).unwrap();
        assert_eq!(serde_json::from_str::<Reason>(&kept).unwrap(), reason(part, 1e9), "{kept}");
        let warned = Warning::Slow { why: reason(part, 2.5) };
        let kept = serde_json::to_string(&warned).unwrap();
        assert_eq!(serde_json::from_str::<Warning>(&kept).unwrap(), warned, "{kept}");
    }
}
