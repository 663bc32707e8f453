//! What the monitor hears.

use super::*;

fn hear(monitor: &mut Monitor) -> Vec<Event> {
    std::iter::from_fn(|| monitor.next().expect("a working monitor")).collect()
}

#[test]
fn a_replaced_table_is_heard() {
    let (events, generation, origin) = with_socket(|socket| {
        let mut monitor = Monitor::open().expect("a monitor");
        assert_eq!(hear(&mut monitor), [], "nothing has happened");
        socket.apply(&[Operation::ReplaceTable(sample())]).expect("the table");
        (hear(&mut monitor), socket.generation().expect("a generation"), socket.port())
    });
    let Some((Event::Committed { generation: last }, changed)) = events.split_last() else {
        panic!("a transaction ends with its generation: {events:?}");
    };
    assert_eq!(*last, generation, "the generation is that of the ruleset now");
    let wanted = [
        (Subject::Table, Action::New),
        (Subject::Chain("forward".into()), Action::New),
        (Subject::Rule("forward".into()), Action::New),
        (Subject::Set("cluster".into()), Action::New),
        (Subject::Elements("cluster".into()), Action::New),
    ];
    let table = TableId::new(Family::Inet, "netd");
    for (subject, action) in wanted {
        let generation = u16::try_from(generation & 0xffff).expect("16 bits");
        let event = Event::Changed { table: table.clone(), subject, action, generation, origin };
        assert!(changed.contains(&event), "heard: {event:?} of {changed:?}");
    }
}

#[test]
fn what_is_deleted_is_heard_as_deleted() {
    let table = TableId::new(Family::Ip, "t");
    let events = with_socket(|socket| {
        socket.apply(&[Operation::AddTable(table.clone())]).expect("the table");
        let mut monitor = Monitor::open().expect("a monitor");
        socket.apply(&[Operation::DeleteTable(table.clone())]).expect("no table");
        hear(&mut monitor)
    });
    assert!(
        matches!(&events[..], [Event::Changed { table: heard, subject: Subject::Table, action: Action::Deleted, .. },
            Event::Committed { .. }] if *heard == table),
        "the table's end and the transaction's: {events:?}"
    );
}

#[test]
fn a_full_buffer_is_an_overrun_and_not_the_end() {
    let id = TableId::new(Family::Ip, "t");
    with_socket(|socket| {
        let mut monitor = Monitor::open().expect("a monitor");
        monitor.inner.inner.set_rx_buf_sz(4096).expect("a small buffer");
        for _ in 0..200 {
            let changes = [Operation::AddTable(id.clone()), Operation::DeleteTable(id.clone())];
            for change in changes {
                socket.apply(&[change]).expect("a change");
            }
        }
        let events = hear(&mut monitor);
        assert!(events.contains(&Event::Overrun), "the loss is told: {events:?}");
        socket.apply(&[Operation::AddTable(id.clone())]).expect("the table");
        assert_eq!(hear(&mut monitor).len(), 2, "the monitor goes on");
    });
}
