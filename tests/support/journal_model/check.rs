//! The checker: it walks every world that the protocol can come to, and holds each against what is promised.

use super::*;

/// What is known of all the worlds seen with one mutant.
pub struct Model {
    mutant: Mutant,
    /// What recovery may end in, from worlds that are done with.
    ends: HashMap<World, BTreeSet<Target>>,
    /// Worlds at the end of a recovery, and what each promises to hold.
    promised: Vec<(World, Target)>,
    kept: HashSet<World>,
    states: usize,
}

impl Model {
    fn new(mutant: Mutant) -> Model {
        Model {
            mutant,
            ends: HashMap::new(),
            promised: Vec::new(),
            kept: HashSet::new(),
            states: 0,
        }
    }

    /// What recovery ends in from `start` on, however often it is killed, or the power fails, on the way.
    fn settle(&mut self, start: &World) -> Result<BTreeSet<Target>, String> {
        if let Some(known) = self.ends.get(start) {
            return Ok(known.clone());
        }
        let (mut ends, mut seen, mut queue) = (BTreeSet::new(), HashSet::new(), vec![start.clone()]);
        while let Some(world) = queue.pop() {
            if let Some(known) = self.ends.get(&world) {
                ends.extend(known);
                continue;
            }
            if !seen.insert(world.clone()) {
                continue;
            }
            self.states += 1;
            assert!(self.states < 200_000, "the model has grown out of hand");
            let steps = recovery(&world, self.mutant).map_err(|why| format!("wrongly refused: {why}: {world:?}"))?;
            // A run that finds no journal, and promises nothing, syncs no folder: after a patch that was killed between
            // its last two steps, the power's failing may bring the journal back, until the next run that does.
            let promises = !steps.is_empty();
            let mut now = world;
            for op in steps {
                queue.extend(now.after_power_failure());
                queue.push(now.clone());
                now.apply(op);
            }
            if self.mutant != Mutant::RecoveryMissing && now.journal().is_some() {
                return Err(format!("the journal outlives its recovery: {now:?}"));
            }
            ends.insert(now.target);
            if promises {
                let target = now.target;
                self.promised.push((now, target));
            }
        }
        self.ends.insert(start.clone(), ends.clone());
        Ok(ends)
    }

    /// From `world` on, recovery ends in one of `allowed` and in nothing else.
    fn ends_in(&mut self, world: &World, allowed: &[Target], when: &str) -> Result<(), String> {
        let ends = self.settle(world)?;
        match ends.iter().find(|end| !allowed.contains(end)) {
            Some(end) => Err(format!("{when}: {end:?}, where {allowed:?} is whole, from {world:?}")),
            None => Ok(()),
        }
    }

    /// Each state that `world` may turn into by a power failure, or by a kill, ends in one of `allowed`.
    fn survives(&mut self, world: &World, allowed: &[Target], when: &str) -> Result<(), String> {
        for after in world.after_power_failure() {
            self.ends_in(&after, allowed, when)?;
        }
        self.ends_in(world, allowed, when)
    }

    /// A run that ended well promises that `world` holds `target`, whatever follows: also when somebody else writes.
    fn keeps(&mut self, world: &World, target: Target) -> Result<(), String> {
        if !self.kept.insert(world.clone()) {
            return Ok(());
        }
        self.survives(world, &[target], "what was durable is not")?;
        let mut after = world.clone();
        (0..3).for_each(|cell| after.apply(Op::Store(cell, FOREIGN)));
        after.apply(Op::Msync);
        self.survives(&after, &[[FOREIGN; 3]], "another program's bytes, durable, are not")?;
        // The next patch begins its journal, and the power fails.
        let mut next = world.clone();
        let steps = patch(target, [NEXT, NEXT, target[LENGTH]], Shape::Kept, self.mutant);
        let begins = steps.into_iter().take_while(|op| !matches!(op, Op::FsyncJournal | Op::Store(..)));
        if next.journal().is_none() {
            begins.for_each(|op| next.apply(op));
            for mut after in next.after_power_failure() {
                let steps = recovery(&after, self.mutant).map_err(|why| format!("wrongly refused: {why}"))?;
                steps.into_iter().for_each(|op| after.apply(op));
                if after.target != target {
                    return Err(format!("once another patch has begun, {target:?} may be {:?}", after.target));
                }
            }
        }
        Ok(())
    }

    /// Runs of patches on `world`, one after the other; each may be killed, and the power may fail, at every step.
    fn run(&mut self, world: &World, patches: &[(Target, Shape)], whole: &[Target]) -> Result<(), String> {
        let Some(((new, shape), later)) = patches.split_first() else {
            return Ok(());
        };
        let mut now = world.clone();
        let steps = recovery(&now, self.mutant).map_err(|why| format!("wrongly refused: {why}"))?;
        for op in steps {
            self.survives(&now, whole, "in the recovery before a patch")?;
            now.apply(op);
        }
        if now.journal().is_some() {
            return Err("the patch cannot make its journal: one is left".into());
        }
        let whole = [whole, &[*new]].concat();
        for op in patch(now.target, *new, *shape, self.mutant) {
            self.survives(&now, &whole, "torn")?;
            self.strangers_stay(&now, *shape, *new)?;
            self.run(&now, later, &whole)?;
            self.says_durable(&now, *new)?;
            now.apply(op);
        }
        if now.target != *new {
            return Err(format!("patched to {new:?}, it holds {:?}", now.target));
        }
        self.promised.push((now.clone(), *new));
        self.run(&now, later, &[*new])
    }

    /// Verbs that are not atomic, after a patch that was killed here, and call durable what they leave.
    fn says_durable(&mut self, world: &World, new: Target) -> Result<(), String> {
        if world.journal().is_none() {
            let mut now = world.clone();
            sync(self.mutant).into_iter().for_each(|op| now.apply(op));
            let target = now.target;
            self.promised.push((now, target));
        }
        let mut now = world.clone();
        let recovered = recovery(&now, self.mutant).map_err(|why| format!("wrongly refused: {why}"))?;
        recovered.into_iter().for_each(|op| now.apply(op));
        synced(now.target, new, self.mutant).into_iter().for_each(|op| now.apply(op));
        self.promised.push((now, new));
        Ok(())
    }

    /// Where a valid journal stands and somebody has written since, recovery refuses; in the part by which the file has
    /// grown, from the first store on.
    fn strangers_stay(&self, world: &World, shape: Shape, new: Target) -> Result<(), String> {
        let Some(says) = world.journal().and_then(|journal| journal.read(Mutant::None)) else {
            return Ok(());
        };
        let has_stored = world.target[0] == new[0];
        let cells = [0, TAIL].into_iter().filter(|cell| *cell == 0 || shape == Shape::Grown && has_stored);
        for cell in cells.filter(|cell| says[*cell].is_some()) {
            let mut after = world.clone();
            after.apply(Op::Store(cell, FOREIGN));
            if recovery(&after, self.mutant).is_ok() {
                return Err(format!("another program's bytes in cell {cell} are overwritten"));
            }
        }
        Ok(())
    }

    pub fn check(mutant: Mutant) -> Result<usize, String> {
        let mut model = Model::new(mutant);
        let old = [OLD; 3];
        let same = |value: Value| [value, value, OLD];
        for (new, next, shape) in [
            (same(NEW), same(NEXT), Shape::Kept),
            ([NEW; 3], [NEXT; 3], Shape::Grown),
            ([NEW; 3], [NEXT; 3], Shape::Shrunk),
        ] {
            for reuses in [true, false] {
                let start = World::at_rest(None, old).reusing(reuses);
                // Killed or finished, and then another patch; the same again; the way back.
                for second in [next, new, old] {
                    model.run(&start, &[(new, shape), (second, shape)], &[old])?;
                }
                // Until the first flush, a power failure loses any part of what somebody wrote before.
                let start = World::unwritten(old).reusing(reuses);
                let whole: Vec<Target> = start.after_power_failure().iter().map(|world| world.target).collect();
                model.run(&start, &[(new, shape), (next, shape)], &whole)?;
            }
        }
        while let Some((world, target)) = model.promised.pop() {
            model.keeps(&world, target)?;
        }
        Ok(model.states)
    }
}
