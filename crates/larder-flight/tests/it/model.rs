//! Random sequences of operations, beside a model without locks, shards or clean-up.

use futures_util::FutureExt;
use larder_core::Key;
use larder_flight::{FlightId, Flights, Follower, Join, Leader, Ticket};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::id;

const KEYS: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Join { key: usize, options: u8 },
    LeadAlone { key: usize, options: u8 },
    Ticket { key: usize },
    Raise { key: usize },
    RaiseWhere { keys: [bool; KEYS] },
    Commit(Index),
    CommitCopy(Index),
    CommitLoad(Index),
    Answer(Index),
    Finish(Index),
    DropLeader(Index),
    DropTicket(Index),
    DropFollower(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS;
    let step = prop_oneof![
        4 => (key.clone(), 0..2_u8).prop_map(|(key, options)| Step::Join { key, options }),
        1 => (key.clone(), 0..2_u8).prop_map(|(key, options)| Step::LeadAlone { key, options }),
        2 => key.clone().prop_map(|key| Step::Ticket { key }),
        1 => key.prop_map(|key| Step::Raise { key }),
        1 => any::<[bool; KEYS]>().prop_map(|keys| Step::RaiseWhere { keys }),
        2 => any::<Index>().prop_map(Step::Commit),
        2 => any::<Index>().prop_map(Step::CommitCopy),
        2 => any::<Index>().prop_map(Step::CommitLoad),
        1 => any::<Index>().prop_map(Step::Answer),
        2 => any::<Index>().prop_map(Step::Finish),
        1 => any::<Index>().prop_map(Step::DropLeader),
        1 => any::<Index>().prop_map(Step::DropTicket),
        1 => any::<Index>().prop_map(Step::DropFollower),
    ];
    vec(step, 0..80)
}

/// A lead: its flight's number in the model, and what its followers are to get.
struct Led {
    leader: Leader<u32>,
    key: usize,
    valid: bool,
    flight: usize,
}

struct Ticketed {
    ticket: Ticket<u32>,
    key: usize,
    valid: bool,
}

struct Followed {
    follower: Follower<u32>,
    flight: usize,
}

/// A flight of the model: each early answer opens another for those who come later.
#[derive(Clone, Copy)]
struct Flight {
    key: usize,
    options: u8,
    open: bool,
    result: Option<Option<u32>>,
}

struct Run {
    flights: Flights<u32>,
    keys: [Key; KEYS],
    model: Vec<Flight>,
    led: Vec<Led>,
    tickets: Vec<Ticketed>,
    followed: Vec<Followed>,
}

impl Run {
    fn new() -> Self {
        let keys = ["a", "b", "c"].map(Key::new);
        Self { flights: Flights::new(), keys, model: vec![], led: vec![], tickets: vec![], followed: vec![] }
    }

    fn open(&mut self, key: usize, options: u8) -> usize {
        self.model.push(Flight { key, options, open: true, result: None });
        self.model.len() - 1
    }

    /// Voids and detaches what there is of a key, but for one flight.
    fn supersede(&mut self, key: usize, but: Option<usize>) {
        self.tickets.iter_mut().filter(|held| held.key == key).for_each(|held| held.valid = false);
        self.led.iter_mut().filter(|led| led.key == key && Some(led.flight) != but).for_each(|led| led.valid = false);
        self.detach(|number, flight| flight.key == key && Some(number) != but);
    }

    fn detach(&mut self, which: impl Fn(usize, &Flight) -> bool) {
        for (number, flight) in self.model.iter_mut().enumerate() {
            flight.open &= !which(number, flight);
        }
    }

    fn end(&mut self, flight: usize, result: Option<u32>) {
        self.model[flight].open = false;
        self.model[flight].result = Some(result);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join { key, options } => self.join(key, options),
            Step::LeadAlone { key, options } => {
                let leader = self.flights.lead_alone(&self.keys[key], FlightId { options, ..id() });
                self.tickets.iter_mut().filter(|held| held.key == key).for_each(|held| held.valid = false);
                self.led.iter_mut().filter(|led| led.key == key).for_each(|led| led.valid = false);
                self.detach(|_, flight| flight.key == key && flight.options == options);
                let flight = self.open(key, options);
                self.led.push(Led { leader, key, valid: true, flight });
            }
            Step::Ticket { key } => {
                let ticket = self.flights.ticket(&self.keys[key]);
                self.tickets.push(Ticketed { ticket, key, valid: true });
            }
            Step::Raise { key } => {
                self.flights.raise(&self.keys[key], || ());
                self.supersede(key, None);
            }
            Step::RaiseWhere { keys } => {
                self.flights.raise_where(|text| self.keys.iter().zip(keys).any(|(key, is)| is && key.as_str() == text));
                (0..KEYS).filter(|key| keys[*key]).for_each(|key| self.supersede(key, None));
            }
            Step::Commit(_) | Step::CommitCopy(_) | Step::CommitLoad(_) => self.commit(&step),
            Step::Answer(index) => {
                let Some(led) = pick(&mut self.led, index) else { return };
                let Led { leader, key, valid, flight: was } = led;
                let leader = leader.answer(1);
                let Flight { options, open, .. } = self.model[was];
                self.end(was, Some(1));
                let flight = self.open(key, options);
                // What was detached stays detached.
                self.model[flight].open = open;
                self.led.push(Led { leader, key, valid, flight });
            }
            Step::Finish(index) => {
                let Some(led) = pick(&mut self.led, index) else { return };
                drop(led.leader.finish(2));
                self.end(led.flight, Some(2));
            }
            Step::DropLeader(index) => {
                let Some(led) = pick(&mut self.led, index) else { return };
                drop(led.leader);
                self.end(led.flight, None);
            }
            Step::DropTicket(index) => drop(pick(&mut self.tickets, index)),
            Step::DropFollower(index) => drop(pick(&mut self.followed, index)),
        }
    }

    fn join(&mut self, key: usize, options: u8) {
        let open = self.model.iter().position(|flight| flight.open && flight.key == key && flight.options == options);
        match (self.flights.join(&self.keys[key], FlightId { options, ..id() }), open) {
            (Join::Follow(follower), Some(flight)) => self.followed.push(Followed { follower, flight }),
            (Join::Lead(leader), None) => {
                let flight = self.open(key, options);
                self.led.push(Led { leader, key, valid: true, flight });
            }
            (joined, open) => panic!("{joined:?} where the model has {open:?}"),
        }
    }

    /// A committed ticket is taken out while it voids the others, and stays valid.
    fn commit(&mut self, step: &Step) {
        let mut stored = false;
        match *step {
            Step::CommitLoad(index) => {
                let Some(mut led) = pick(&mut self.led, index) else { return };
                assert_eq!(led.leader.ticket().commit(|| stored = true), led.valid);
                assert_eq!(stored, led.valid);
                if led.valid {
                    self.supersede(led.key, Some(led.flight));
                }
                self.led.push(led);
            }
            Step::Commit(index) => {
                let Some(mut held) = pick(&mut self.tickets, index) else { return };
                assert_eq!(held.ticket.commit(|| stored = true), held.valid);
                assert_eq!(stored, held.valid);
                if held.valid {
                    self.supersede(held.key, None);
                }
                self.tickets.push(held);
            }
            Step::CommitCopy(index) => {
                let Some(held) = pick(&mut self.tickets, index) else { return };
                assert_eq!(held.ticket.commit_copy(|| stored = true), held.valid);
                assert_eq!(stored, held.valid);
                self.tickets.push(held);
            }
            _ => unreachable!("no other step commits"),
        }
    }

    fn check(&mut self) {
        assert_eq!(self.flights.in_flight(), self.model.iter().filter(|flight| flight.open).count());
        let at_work =
            |key| self.led.iter().any(|led| led.key == key) || self.tickets.iter().any(|held| held.key == key);
        assert_eq!(self.flights.keys_at_work(), (0..KEYS).filter(|key| at_work(*key)).count());
        for held in &self.tickets {
            assert_eq!(held.ticket.is_valid(), held.valid);
        }
        for led in &mut self.led {
            assert_eq!(led.leader.ticket().is_valid(), led.valid);
        }
    }

    fn end_all(mut self) {
        self.tickets.clear();
        while let Some(led) = self.led.pop() {
            drop(led.leader.finish(3));
            self.end(led.flight, Some(3));
        }
        assert_eq!(self.flights.in_flight(), 0);
        assert_eq!(self.flights.keys_at_work(), 0);
        for Followed { follower, flight } in self.followed {
            assert_eq!(follower.wait().now_or_never(), self.model[flight].result);
        }
    }
}

fn pick<T>(from: &mut Vec<T>, index: Index) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(index.index(from.len())))
}

proptest! {
    #[test]
    fn any_sequence_of_operations_does_what_the_model_does(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
            run.check();
        }
        run.end_all();
    }
}
