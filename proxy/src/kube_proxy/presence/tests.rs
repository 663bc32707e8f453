use super::*;

/// Looks at the seconds after a start, and what each one means: `-` none runs, `r` one runs, `b` it begins, `w` it is waited for.
fn meanings(observer: &mut Observer, start: Instant, looks: &[(u64, &Signs)]) -> String {
    let meaning = |(second, signs): &(u64, &Signs)| match observer.judge(signs, start + Duration::from_secs(*second)) {
        Presence::Absent => '-',
        Presence::Running(_) => 'r',
        Presence::Beginning(_) => 'b',
        Presence::Returning(_) => 'w',
    };
    looks.iter().map(meaning).collect()
}

fn signs(process: bool, answer: bool, has_rules: bool) -> Signs {
    let address = SocketAddr::from(([127, 0, 0, 1], 10249));
    Signs { process: process.then_some(7), answer: answer.then_some(address), has_rules }
}

#[test]
fn a_process_runs_whatever_else_there_is() {
    for (answer, has_rules) in [(false, false), (false, true), (true, false)] {
        let presence = Observer::default().judge(&signs(true, answer, has_rules), Instant::now());
        assert_eq!(presence, Presence::Running("kube-proxy runs as process 7".to_owned()));
    }
}

#[test]
fn an_answer_counts_with_rules_alone() {
    let (both, answer, start) = (signs(false, true, true), signs(false, true, false), Instant::now());
    assert_eq!(meanings(&mut Observer::default(), start, &[(0, &both), (90, &both)]), "rr");
    // One that pretends: none runs after a minute. One that is slow with its rules runs.
    let pretends = [(0, &answer), (30, &answer), (59, &answer), (60, &answer), (65, &answer)];
    assert_eq!(meanings(&mut Observer::default(), start, &pretends), "bbb--");
    assert_eq!(meanings(&mut Observer::default(), start, &[(0, &answer), (59, &answer), (61, &both)]), "bbr");
    // One that was started again after its rules were removed gets the same time again.
    let again = [(0, &answer), (30, &both), (40, &answer), (99, &answer), (100, &answer)];
    assert_eq!(meanings(&mut Observer::default(), start, &again), "brbb-");
}

#[test]
fn rules_alone_are_left_to_one_that_starts_again() {
    let (both, rules, none, start) =
        (signs(false, true, true), signs(false, false, true), Signs::default(), Instant::now());
    assert_eq!(meanings(&mut Observer::default(), start, &[(0, &none), (5, &none)]), "--");
    assert_eq!(meanings(&mut Observer::default(), start, &[(0, &rules), (14, &rules), (15, &rules)]), "ww-");
    let restarted = [(0, &both), (5, &rules), (10, &rules), (15, &both), (20, &rules), (35, &rules)];
    assert_eq!(meanings(&mut Observer::default(), start, &restarted), "rwwrw-");
}

#[test]
fn one_that_has_made_rules_runs_until_it_was_seen_to_end() {
    let (both, rules, start) = (signs(false, true, true), signs(false, false, true), Instant::now());
    let mut observer = Observer::default();
    observer.rules_made();
    assert_eq!(meanings(&mut observer, start, &[(0, &rules), (900, &rules), (901, &Signs::default())]), "rr-");
    assert_eq!(meanings(&mut observer, start, &[(902, &rules), (917, &rules)]), "w-");
    observer.rules_made();
    let ends = [(1000, &rules), (1005, &both), (1010, &rules), (1025, &rules)];
    assert_eq!(meanings(&mut observer, start, &ends), "rrw-");
}

#[test]
fn rules_are_whole_when_they_have_stood_for_a_while() {
    let start = Instant::now();
    let mut rules = Lasting::default();
    let looks = [(0, true), (14, true), (15, true), (20, false), (25, true), (35, true), (40, true)];
    let lasts = looks.map(|(second, is_there)| rules.lasts(is_there, start + Duration::from_secs(second)));
    assert_eq!(lasts, [false, false, true, false, false, false, true]);
}
