//! A model of the undo journal's protocol: every state that a power failure or a kill may leave, at every step of a
//! patch and of its recovery. And mutants of the protocol, of which each must be caught, or the model is blind.
//!
//! What may be on the disk: of the journal, until it is synced, any length and each 512-byte sector old, new or
//! garbage; of the target, until it is flushed, each sector and the length as they ever were since the last flush; of
//! the folder, until it is synced, each entry there has been. A kill alone leaves all that is written to be seen. The
//! second sector of the target lies past the shorter length, if the length changes: once the target is made longer, the
//! disk may have garbage there until the next flush.

mod check;

pub use check::Model;

use std::collections::{BTreeSet, HashMap, HashSet};

/// What a cell of the target holds: the bytes before the patch, after it, after the next one, somebody else's.
pub type Value = u8;
pub const OLD: Value = 0;
pub const NEW: Value = 1;
pub const NEXT: Value = 2;
pub const FOREIGN: Value = 9;
pub const GARBAGE: Value = 77;
/// What the disk has where what was written last is in the page cache alone.
pub const UNWRITTEN: Value = 8;

/// Two sectors that the patch edits, and the length.
pub type Target = [Value; 3];
pub const TAIL: usize = 1;
pub const LENGTH: usize = 2;

/// A sector of a journal on the disk. The first has the head, the second the old bytes, the last the new ones and the
/// checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sector {
    Zeros,
    Good,
    Garbage,
}
pub const SECTORS: usize = 3;

/// What a journal says: of each cell that the patch changes, the old and the new value.
pub type Record = [Option<(Value, Value)>; 3];

/// A valid journal: what it says, how the length changes, and whether it notes that it is being changed.
type Whole = (Record, Shape, bool);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Journal {
    says: Record,
    shape: Shape,
    sectors: Vec<Sector>,
    /// Whether it notes that the length is being changed: what the disk may have, what was written last at the end.
    resizing: Vec<bool>,
    /// What the disk may have instead, whole, before it is synced: what it had at the last sync, or what the journal
    /// said to which the file system had given the same inode before.
    earlier: Vec<Whole>,
    synced: bool,
}

/// A step that may be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Create(Record, Shape, bool),
    Write(Sector),
    FsyncJournal,
    FsyncFolder,
    Store(usize, Value),
    /// The new length is greater, and the blocks for it may be on the disk before what is written to them.
    Lengthen(Value),
    Msync,
    /// The journal notes whether the length is being changed.
    Note(bool),
    /// The journal is made invalid.
    End,
    Unlink,
}

/// A machine: what processes see, and what the disk may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    journals: Vec<Journal>,
    entry: Option<usize>,
    entries: Vec<Option<usize>>,
    target: Target,
    targets: [Vec<Value>; 3],
    /// The file system has no metadata journal: it may give a new journal the inode of the one before. Where it has one,
    /// ending the old journal may fail instead.
    reuses: bool,
}

impl World {
    pub fn at_rest(journal: Option<Journal>, target: Target) -> World {
        let entry = journal.as_ref().map(|_| 0);
        World {
            journals: journal.into_iter().collect(),
            entry,
            entries: vec![entry],
            target,
            targets: target.map(|value| vec![value]),
            reuses: true,
        }
    }

    fn reusing(self, reuses: bool) -> World {
        World { reuses, ..self }
    }

    /// Somebody wrote to the target, and nothing has been flushed since.
    fn unwritten(target: Target) -> World {
        World {
            targets: target.map(|value| vec![UNWRITTEN, value]),
            ..World::at_rest(None, target)
        }
    }

    fn journal(&self) -> Option<&Journal> {
        self.entry.map(|index| &self.journals[index])
    }

    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Create(says, shape, resizing) => {
                assert!(self.entry.is_none(), "the journal is created exclusively");
                let last = self.journals.last().filter(|_| self.reuses);
                let earlier = last.map(Journal::whole_on_disk).unwrap_or_default();
                self.journals.push(Journal {
                    says,
                    shape,
                    sectors: Vec::new(),
                    resizing: vec![resizing],
                    earlier,
                    synced: false,
                });
                self.name(Some(self.journals.len() - 1));
            }
            Op::Write(sector) => self.journals.last_mut().unwrap().sectors.push(sector),
            Op::FsyncJournal => {
                let journal = self.journals.last_mut().unwrap();
                (journal.synced, journal.earlier) = (true, Vec::new());
                journal.resizing.drain(..journal.resizing.len() - 1);
            }
            Op::Note(resizing) => self.journals.last_mut().unwrap().resizing.push(resizing),
            Op::Lengthen(value) => {
                self.apply(Op::Store(LENGTH, value));
                if !self.targets[TAIL].contains(&GARBAGE) {
                    self.targets[TAIL].push(GARBAGE);
                }
            }
            Op::End if !self.reuses => {}
            Op::End => {
                let journal = self.journals.last_mut().unwrap();
                journal.earlier = journal.whole_on_disk();
                journal.sectors.clear();
                journal.synced = false;
            }
            Op::FsyncFolder => self.entries = vec![self.entry],
            Op::Store(cell, value) => {
                self.target[cell] = value;
                if !self.targets[cell].contains(&value) {
                    self.targets[cell].push(value);
                }
            }
            Op::Msync => self.targets = self.target.map(|value| vec![value]),
            Op::Unlink => self.name(None),
        }
    }

    fn name(&mut self, entry: Option<usize>) {
        self.entry = entry;
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// Every disk that a power failure may leave now.
    fn after_power_failure(&self) -> Vec<World> {
        let mut targets = vec![];
        for first in &self.targets[0] {
            for second in &self.targets[1] {
                for length in &self.targets[2] {
                    targets.push([*first, *second, *length]);
                }
            }
        }
        let mut worlds = Vec::new();
        for entry in &self.entries {
            let journals = match entry.map(|index| &self.journals[index]) {
                None => vec![None],
                Some(journal) => journal.on_disk().into_iter().map(Some).collect(),
            };
            for journal in journals {
                let world = |target: &Target| World::at_rest(journal.clone(), *target).reusing(self.reuses);
                worlds.extend(targets.iter().map(world));
            }
        }
        worlds
    }
}

impl Journal {
    /// What the disk may have that is a valid journal.
    fn whole_on_disk(&self) -> Vec<Whole> {
        let is_whole = self.sectors == [Sector::Good; SECTORS];
        let now = self.resizing.iter().filter(|_| is_whole);
        let mut all = self.earlier.clone();
        all.extend(now.map(|resizing| (self.says, self.shape, *resizing)));
        all.dedup();
        all
    }

    fn on_disk(&self) -> Vec<Journal> {
        let noting = |resizing: &bool| Journal {
            resizing: vec![*resizing],
            ..self.clone()
        };
        if self.synced {
            return self.resizing.iter().map(noting).collect();
        }
        let mut longest = vec![Vec::new()];
        let mut all = longest.clone();
        // Of one without contents, garbage is no more than nothing: neither is a valid journal.
        let places = if self.sectors.is_empty() { 0 } else { SECTORS };
        for place in 0..places {
            let written = self.sectors.get(place).copied();
            let states = [Sector::Zeros, Sector::Garbage].into_iter().chain(written);
            let longer = |state| longest.iter().map(move |shorter| [shorter.as_slice(), &[state]].concat());
            longest = states.flat_map(longer).collect();
            all.extend(longest.clone());
        }
        let journal = |((says, shape, resizing), sectors)| Journal {
            says,
            shape,
            sectors,
            resizing: vec![resizing],
            earlier: Vec::new(),
            synced: true,
        };
        let last = *self.resizing.last().unwrap();
        let written = all.into_iter().map(|sectors| ((self.says, self.shape, last), sectors));
        let whole = |whole: &Whole| (*whole, vec![Sector::Good; SECTORS]);
        let earlier = self.earlier.iter().map(whole);
        written.chain(earlier).map(journal).collect()
    }

    /// What recovery takes it to say; `None` when it is invalid.
    fn read(&self, mutant: Mutant) -> Option<Record> {
        if self.sectors == [Sector::Good; SECTORS] {
            return Some(self.says);
        }
        let looks_whole = self.sectors.len() == SECTORS && self.sectors[0] == Sector::Good;
        if mutant != Mutant::NoChecksum || !looks_whole {
            return None;
        }
        let or_garbage = |place: usize, value| match self.sectors[place] {
            Sector::Good => value,
            _ => GARBAGE,
        };
        Some(self.says.map(|cell| cell.map(|(old, new)| (or_garbage(1, old), or_garbage(2, new)))))
    }
}

/// The protocol as it is, and every way to get it wrong that somebody may think of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    None,
    NoFsyncOfJournal,
    NoFsyncOfFolderAfterCreating,
    NoMsync,
    NoFsyncOfFolderAfterUnlinking,
    NoChecksum,
    StoreBeforeJournal,
    StoreBeforeFsyncOfJournal,
    StoreBeforeFsyncOfFolder,
    FsyncOfFolderBeforeCreating,
    OldBytesReadAfterStoring,
    UnlinkBeforeMsync,
    UnlinkBeforeStoring,
    LengthAfterFlushing,
    LengthAfterUnlinking,
    RecoveryUnlinksBeforeStoring,
    RecoveryUnlinksBeforeMsync,
    RecoveryWithoutMsync,
    RecoveryWithoutFsyncOfFolder,
    RecoveryForgetsTheLength,
    RecoveryStopsAtTheFirstCell,
    RecoveryKnowsOldBytesOnly,
    RecoveryKnowsNewBytesOnly,
    RecoveryOverwritesStrangers,
    RecoveryRefusesInvalid,
    RecoveryLeavesTheJournal,
    RecoveryMissing,
    NoFsyncOfFolderWhenNothingChanges,
    SyncedPatchWithoutFsyncOfFolder,
    SyncWithoutFsyncOfFolder,
    OldBytesNotDurable,
    JournalNotEnded,
    RecoveryDoesNotEndIt,
    GrowthNotNoted,
    GrowthNotedTooShort,
    GrowthNotedForEver,
    GrowthNotFlushed,
    ShorteningNotNoted,
    ShorteningNotedTooLate,
    ShorteningNotDurablyNoted,
}

pub const MUTANTS: [Mutant; 39] = [
    Mutant::NoFsyncOfJournal,
    Mutant::NoFsyncOfFolderAfterCreating,
    Mutant::NoMsync,
    Mutant::NoFsyncOfFolderAfterUnlinking,
    Mutant::NoChecksum,
    Mutant::StoreBeforeJournal,
    Mutant::StoreBeforeFsyncOfJournal,
    Mutant::StoreBeforeFsyncOfFolder,
    Mutant::FsyncOfFolderBeforeCreating,
    Mutant::OldBytesReadAfterStoring,
    Mutant::UnlinkBeforeMsync,
    Mutant::UnlinkBeforeStoring,
    Mutant::LengthAfterFlushing,
    Mutant::LengthAfterUnlinking,
    Mutant::RecoveryUnlinksBeforeStoring,
    Mutant::RecoveryUnlinksBeforeMsync,
    Mutant::RecoveryWithoutMsync,
    Mutant::RecoveryWithoutFsyncOfFolder,
    Mutant::RecoveryForgetsTheLength,
    Mutant::RecoveryStopsAtTheFirstCell,
    Mutant::RecoveryKnowsOldBytesOnly,
    Mutant::RecoveryKnowsNewBytesOnly,
    Mutant::RecoveryOverwritesStrangers,
    Mutant::RecoveryRefusesInvalid,
    Mutant::RecoveryLeavesTheJournal,
    Mutant::RecoveryMissing,
    Mutant::NoFsyncOfFolderWhenNothingChanges,
    Mutant::SyncedPatchWithoutFsyncOfFolder,
    Mutant::SyncWithoutFsyncOfFolder,
    Mutant::OldBytesNotDurable,
    Mutant::JournalNotEnded,
    Mutant::RecoveryDoesNotEndIt,
    Mutant::GrowthNotNoted,
    Mutant::GrowthNotedTooShort,
    Mutant::GrowthNotedForEver,
    Mutant::GrowthNotFlushed,
    Mutant::ShorteningNotNoted,
    Mutant::ShorteningNotedTooLate,
    Mutant::ShorteningNotDurablyNoted,
];

/// What becomes of the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Kept,
    Grown,
    Shrunk,
}

/// What a patch of the target as it is to `new` does, once there is no journal any more.
pub fn patch(target: Target, new: Target, shape: Shape, mutant: Mutant) -> Vec<Op> {
    let mut says: Record = [None; 3];
    for cell in 0..3 {
        says[cell] = Some((target[cell], new[cell])).filter(|(old, new)| old != new);
    }
    if says == [None; 3] {
        // An earlier patch may have been killed between its last two steps; and what is there already may be so in the
        // page cache alone, so it is stored again.
        let folder = (mutant != Mutant::NoFsyncOfFolderWhenNothingChanges).then_some(Op::FsyncFolder);
        return folder.into_iter().chain([Op::Store(0, new[0]), Op::Msync]).collect();
    }
    let changed = says.map(|cell| cell.is_some());
    let store = |cells: &[usize]| -> Vec<Op> {
        let cells = cells.iter().filter(|cell| changed[**cell]);
        cells.map(|cell| Op::Store(*cell, new[*cell])).collect()
    };
    if mutant == Mutant::OldBytesReadAfterStoring {
        says[0] = says[0].map(|(_, new)| (new, new));
    }
    let grows = shape == Shape::Grown && changed[LENGTH];
    // What somebody wrote before may be in the page cache alone.
    let settle = (mutant != Mutant::OldBytesNotDurable).then_some(Op::Msync);
    let write = vec![
        Op::Create(says, shape, grows && mutant != Mutant::GrowthNotNoted),
        Op::Write(Sector::Good),
        Op::Write(Sector::Good),
        Op::Write(Sector::Good),
    ];
    let note = |resizing| vec![Op::Note(resizing), Op::FsyncJournal];
    let length = store(&[LENGTH]);
    let stores = match (shape, mutant) {
        _ if length.is_empty() => store(&[0, 1]),
        (Shape::Kept, _) => store(&[0, 1]),
        (Shape::Grown, _) => {
            let (flush, noted) = (vec![Op::Msync], note(false));
            let settled = match mutant {
                Mutant::GrowthNotNoted => flush,
                Mutant::GrowthNotedTooShort => [noted, flush].concat(),
                Mutant::GrowthNotedForEver => flush,
                Mutant::GrowthNotFlushed => noted,
                _ => [flush, noted].concat(),
            };
            [vec![Op::Lengthen(new[LENGTH])], settled, store(&[0, 1])].concat()
        }
        (Shape::Shrunk, Mutant::ShorteningNotNoted) => [store(&[0, 1]), length].concat(),
        (Shape::Shrunk, Mutant::ShorteningNotedTooLate) => [store(&[0, 1]), length, note(true)].concat(),
        (Shape::Shrunk, Mutant::ShorteningNotDurablyNoted) => [store(&[0, 1]), vec![Op::Note(true)], length].concat(),
        (Shape::Shrunk, _) => [store(&[0, 1]), note(true), length].concat(),
    };
    let unlink = match mutant {
        Mutant::JournalNotEnded => vec![Op::Unlink],
        _ => vec![Op::End, Op::FsyncJournal, Op::Unlink],
    };
    let (journal, folder, msync) = (vec![Op::FsyncJournal], vec![Op::FsyncFolder], vec![Op::Msync]);
    let (last, none) = (folder.clone(), vec![]);
    let steps = match mutant {
        Mutant::NoFsyncOfJournal => [write, folder, stores, msync, unlink, last],
        Mutant::NoFsyncOfFolderAfterCreating => [write, journal, stores, msync, unlink, last],
        Mutant::NoMsync => [write, journal, folder, stores, unlink, last],
        Mutant::NoFsyncOfFolderAfterUnlinking => [write, journal, folder, stores, msync, unlink],
        Mutant::StoreBeforeJournal => [stores, write, [journal, folder].concat(), msync, unlink, last],
        Mutant::StoreBeforeFsyncOfJournal => [write, stores, [journal, folder].concat(), msync, unlink, last],
        Mutant::StoreBeforeFsyncOfFolder => [write, journal, stores, [folder, msync].concat(), unlink, last],
        Mutant::FsyncOfFolderBeforeCreating => [folder, [write, journal].concat(), stores, msync, unlink, last],
        Mutant::UnlinkBeforeMsync => [[write, journal, folder].concat(), stores, unlink, last, msync, none],
        Mutant::UnlinkBeforeStoring => [[write, journal, folder].concat(), unlink, last, stores, msync, none],
        Mutant::LengthAfterFlushing if shape == Shape::Shrunk => {
            let rest = [store(&[0, 1]), msync].concat();
            [
                [write, journal, folder].concat(),
                rest,
                store(&[LENGTH]),
                unlink,
                last,
                none,
            ]
        }
        Mutant::LengthAfterUnlinking if shape != Shape::Kept => {
            let length = [store(&[LENGTH]), vec![Op::Msync]].concat();
            let rest = store(&[0, 1]);
            [[write, journal, folder].concat(), rest, msync, unlink, last, length]
        }
        _ => [[write, journal, folder].concat(), stores, msync, unlink, last, none],
    };
    settle.into_iter().chain(steps.concat()).collect()
}

/// What a patch with --sync and without --atomic does, once there is no journal any more. It may be torn, but what it
/// says at its end is a promise.
pub fn synced(target: Target, new: Target, mutant: Mutant) -> Vec<Op> {
    let folder = (mutant != Mutant::SyncedPatchWithoutFsyncOfFolder).then_some(Op::FsyncFolder);
    // What is there already may be so in the page cache alone, so it is stored again.
    let unchanged = target == new;
    let stores = (0..3).filter(|cell| target[*cell] != new[*cell] || unchanged && *cell == 0);
    let stores = stores.map(|cell| Op::Store(cell, new[cell]));
    folder.into_iter().chain(stores).chain([Op::Msync]).collect()
}

/// What the verb sync does where there is no journal, without which it promises nothing.
pub fn sync(mutant: Mutant) -> Vec<Op> {
    let folder = (mutant != Mutant::SyncWithoutFsyncOfFolder).then_some(Op::FsyncFolder);
    [Op::Msync].into_iter().chain(folder).collect()
}

/// What a run does first about a journal that it finds, or why it refuses to.
pub fn recovery(world: &World, mutant: Mutant) -> Result<Vec<Op>, String> {
    let Some(journal) = world.journal().filter(|_| mutant != Mutant::RecoveryMissing) else {
        return Ok(vec![]);
    };
    let Some(says) = journal.read(mutant) else {
        return match mutant {
            Mutant::RecoveryRefusesInvalid => Err("an invalid journal is refused".into()),
            _ => Ok(vec![Op::End, Op::FsyncJournal, Op::Unlink, Op::FsyncFolder]),
        };
    };
    for (cell, (have, says)) in world.target.iter().zip(says).enumerate() {
        let Some((old, new)) = says else { continue };
        let may_be_anything = cell == TAIL && journal.resizing.last() == Some(&true);
        let known = match mutant {
            _ if may_be_anything => true,
            Mutant::RecoveryOverwritesStrangers => true,
            Mutant::RecoveryKnowsOldBytesOnly => *have == old,
            Mutant::RecoveryKnowsNewBytesOnly => *have == new,
            _ => *have == old || *have == new,
        };
        if !known {
            return Err(format!("cell {cell} holds {have}, neither {old} nor {new}"));
        }
    }
    let back = says.iter().enumerate().filter_map(|(cell, says)| match mutant {
        Mutant::RecoveryForgetsTheLength if cell == LENGTH => None,
        Mutant::RecoveryStopsAtTheFirstCell if cell > 0 => None,
        _ => says.map(|(old, _)| match journal.shape {
            Shape::Shrunk if cell == LENGTH && world.target[LENGTH] != old => Op::Lengthen(old),
            _ => Op::Store(cell, old),
        }),
    });
    let back: Vec<Op> = back.collect();
    // The length is flushed by a call of its own.
    let flushes = if says[LENGTH].is_some() { 2 } else { 1 };
    let unlink = match mutant {
        Mutant::RecoveryDoesNotEndIt => vec![Op::Unlink],
        _ => vec![Op::End, Op::FsyncJournal, Op::Unlink],
    };
    let (msync, folder) = (vec![Op::Msync; flushes], vec![Op::FsyncFolder]);
    let steps = match mutant {
        Mutant::RecoveryUnlinksBeforeStoring => vec![unlink, folder, back, msync],
        Mutant::RecoveryUnlinksBeforeMsync => vec![back, unlink, folder, msync],
        Mutant::RecoveryWithoutMsync => vec![back, unlink, folder],
        Mutant::RecoveryWithoutFsyncOfFolder => vec![back, msync, unlink],
        Mutant::RecoveryLeavesTheJournal => vec![back, msync],
        _ => vec![back, msync, unlink, folder],
    };
    Ok(steps.concat())
}
