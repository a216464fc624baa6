//! Cuts samples into pieces and scalars, counts which place follows which, and makes blocks of what is frequent.
//! Called by training. A node is a place (a way of containers and names, positions in arrays left out); an edge is the
//! piece from one to the next.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::graph::{Draft, DraftBlock, END, MAX_PARTS};
use super::learn;
use super::scalar::{self, PAD};
use super::structure::Structure;

const START: u32 = 0;
/// Most nodes of a graph.
const MAX_NODES: usize = 4096;
/// Most branches of a block.
const MAX_BRANCHES: usize = 64;
/// Most bytes of all pieces.
const MAX_PIECE_BYTES: usize = 256 << 10;
/// Most values that a slot is chosen by.
const MAX_VALUES: usize = 4096;
/// With fewer samples than this, what was seen once counts.
const FEW_SAMPLES: usize = 16;

/// One sample, cut.
struct Cut {
    /// Edges in order, by index.
    edges: Vec<usize>,
    /// Per edge but the last: the scalar behind it.
    scalars: Vec<Vec<u8>>,
}

struct Edge {
    from: u32,
    to: u32,
    piece: Vec<u8>,
    /// Samples that have it.
    samples: usize,
    kept: bool,
}

/// All samples, cut, and what connects them.
pub(super) struct Network {
    nodes: HashMap<Structure, u32>,
    edges: Vec<Edge>,
    cuts: Vec<Cut>,
}

impl Network {
    /// Of all samples that are JSON objects.
    pub(super) fn of(samples: &[Vec<u8>]) -> Network {
        let mut network = Network { nodes: HashMap::new(), edges: Vec::new(), cuts: Vec::new() };
        let mut index = BTreeMap::new();
        network.cuts = samples.iter().filter_map(|sample| network.cut(sample, &mut index)).collect();
        for cut in &network.cuts {
            let mut edges = cut.edges.clone();
            edges.sort_unstable();
            edges.dedup();
            for edge in edges {
                network.edges[edge].samples += 1;
            }
        }
        network.prune();
        network
    }

    fn cut(&mut self, sample: &[u8], index: &mut BTreeMap<(u32, Vec<u8>), usize>) -> Option<Cut> {
        let mut text = sample.to_vec();
        text.resize(sample.len() + PAD, 0);
        if sample.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let mut structure = Structure::start();
        let mut cut = Cut { edges: Vec::new(), scalars: Vec::new() };
        let (mut at, mut from) = (0, START);
        loop {
            let start = at;
            at += structure.advance(&text[at..], |_, _| {})?;
            let done = structure.is_done();
            let to = if done { END } else { self.node(&structure) };
            let piece = text[start..at].to_vec();
            cut.edges.push(*index.entry((from, piece.clone())).or_insert(self.edges.len()));
            if cut.edges.last() == Some(&self.edges.len()) {
                self.edges.push(Edge { from, to, piece, samples: 0, kept: true });
            }
            if done {
                return (at == sample.len()).then_some(cut);
            }
            let end = scalar::end(&text, at)?;
            cut.scalars.push(text[at..end].to_vec());
            (at, from) = (end, to);
        }
    }

    fn node(&mut self, structure: &Structure) -> u32 {
        let next = self.nodes.len() as u32 + 1;
        *self.nodes.entry(structure.clone()).or_insert(next)
    }

    /// Keeps the edges that enough samples have, as many as the bounds allow, and of those what leads from start to end.
    fn prune(&mut self) {
        let mut support = if self.cuts.len() < FEW_SAMPLES { 1 } else { 2 };
        loop {
            self.keep_frequent(support);
            self.drop_dead_ends();
            let kept = || self.edges.iter().filter(|edge| edge.kept);
            let mut nodes: Vec<u32> = kept().map(|edge| edge.to).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let bytes: usize = kept().map(|edge| edge.piece.len()).sum();
            let edges = kept().count();
            if nodes.len() <= MAX_NODES && edges <= MAX_PARTS && bytes <= MAX_PIECE_BYTES {
                return;
            }
            support *= 2;
        }
    }

    fn keep_frequent(&mut self, support: usize) {
        let mut order: Vec<usize> = (0..self.edges.len()).collect();
        order.sort_by_key(|edge| std::cmp::Reverse(self.edges[*edge].samples));
        let mut branches: HashMap<u32, usize> = HashMap::new();
        for edge in order {
            let edge = &mut self.edges[edge];
            let count = branches.entry(edge.from).or_default();
            *count += 1;
            edge.kept = edge.samples >= support && *count <= MAX_BRANCHES;
        }
    }

    /// Drops edges that no walk from start to end takes.
    fn drop_dead_ends(&mut self) {
        let reached = self.spread(START, |edge| (edge.from, edge.to));
        let leaving = self.spread(END, |edge| (edge.to, edge.from));
        for edge in &mut self.edges {
            edge.kept &= reached.contains(&edge.from) && leaving.contains(&edge.to);
        }
    }

    /// All nodes that kept edges, taken in the direction that `ends` gives, lead to from `start`.
    fn spread(&self, start: u32, ends: impl Fn(&Edge) -> (u32, u32)) -> HashSet<u32> {
        let mut next: HashMap<u32, Vec<u32>> = HashMap::new();
        for (from, to) in self.edges.iter().filter(|edge| edge.kept).map(ends) {
            next.entry(from).or_default().push(to);
        }
        let mut found = HashSet::from([start]);
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            open.extend(next.get(&node).into_iter().flatten().filter(|to| found.insert(**to)));
        }
        found
    }

    /// Kept edges from each node, the most frequent first, but none before a longer one that starts with its piece.
    fn successors(&self) -> Vec<Vec<usize>> {
        let mut successors = vec![Vec::new(); self.nodes.len() + 1];
        for (index, edge) in self.edges.iter().enumerate().filter(|(_, edge)| edge.kept) {
            successors[edge.from as usize].push(index);
        }
        for edges in &mut successors {
            let piece = |edge: &usize| &self.edges[*edge].piece;
            let hidden = |a: &usize| edges.iter().any(|b| a != b && piece(b).starts_with(piece(a)));
            let ambiguous = edges.iter().any(hidden);
            edges.sort_by_key(|edge| {
                let length = if ambiguous { piece(edge).len() } else { 0 };
                (std::cmp::Reverse((length, self.edges[*edge].samples)), *edge)
            });
        }
        successors
    }

    /// The blocks: runs of nodes with one way in and one way out.
    pub(super) fn draft(&self) -> Draft {
        let successors = self.successors();
        let leaders = self.leaders(&successors);
        let values = self.values();
        let mut numbers: HashMap<u32, u32> = HashMap::from([(START, 0)]);
        let mut order = vec![START];
        let mut draft = Draft::new();
        while let Some(node) = order.get(draft.len()).copied() {
            let (nodes, steps) = self.run(node, &successors, &leaders, &values);
            let last = nodes.last().copied().unwrap_or(START);
            let mut branches = Vec::new();
            for edge in &successors[last as usize] {
                let edge = &self.edges[*edge];
                let target = match edge.to {
                    END => END,
                    to => *numbers.entry(to).or_insert_with(|| {
                        order.push(to);
                        order.len() as u32 - 1
                    }),
                };
                branches.push((edge.piece.clone(), target));
            }
            draft.push(DraftBlock { steps, branches });
        }
        draft
    }

    /// The nodes of the block that starts at `node`, and its steps.
    fn run(
        &self,
        node: u32,
        successors: &[Vec<usize>],
        leaders: &[bool],
        values: &[Vec<&[u8]>],
    ) -> (Vec<u32>, Vec<(Vec<u8>, super::slot::Slot)>) {
        if node == START {
            return (Vec::new(), Vec::new());
        }
        let mut nodes = vec![node];
        let mut steps = vec![(Vec::new(), learn::slot(&values[node as usize]))];
        let mut at = node;
        while let [edge] = successors[at as usize][..] {
            let edge = &self.edges[edge];
            if edge.to == END || leaders[edge.to as usize] {
                break;
            }
            steps.push((edge.piece.clone(), learn::slot(&values[edge.to as usize])));
            nodes.push(edge.to);
            at = edge.to;
        }
        (nodes, steps)
    }

    /// Nodes that start a block: those behind a choice, at the start, or with several ways in.
    fn leaders(&self, successors: &[Vec<usize>]) -> Vec<bool> {
        let mut ways_in = vec![0; self.nodes.len() + 1];
        let mut leaders = vec![false; self.nodes.len() + 1];
        for edge in self.edges.iter().filter(|edge| edge.kept && edge.to != END) {
            ways_in[edge.to as usize] += 1;
            let choice = successors[edge.from as usize].len() > 1;
            leaders[edge.to as usize] |= choice || edge.from == START || ways_in[edge.to as usize] > 1;
        }
        leaders
    }

    /// Per node, the scalars that the samples within the graph have there.
    fn values(&self) -> Vec<Vec<&[u8]>> {
        let mut values = vec![Vec::new(); self.nodes.len() + 1];
        let within = |cut: &&Cut| cut.edges.iter().all(|edge| self.edges[*edge].kept);
        for cut in self.cuts.iter().filter(within) {
            for (edge, scalar) in cut.edges.iter().zip(&cut.scalars) {
                let values = &mut values[self.edges[*edge].to as usize];
                if values.len() < MAX_VALUES {
                    values.push(scalar.as_slice());
                }
            }
        }
        values
    }
}
