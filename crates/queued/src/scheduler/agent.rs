use std::collections::{HashMap, VecDeque};

use mail_types::QueueId;
use queue_store::CHUNK_SIZE;

use super::destination::DestId;

/// An agent's number, never used twice in one process.
pub type AgentId = u32;

/// The agent that is no agent: it asks the directory.
pub(super) const RESOLVER: AgentId = 0;

/// What an agent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Asks the directory.
    Router,
    /// Into mailboxes here.
    Local,
    /// To other systems.
    Smtp,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Router, Self::Local, Self::Smtp];
}

/// Somebody who takes tasks.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) lane: Lane,
    pub(super) name: String,
    max_tasks: usize,
    max_octets: usize,
    /// Octets of content in its tasks.
    octets: usize,
    /// Places that are kept while a message is read.
    reserved: usize,
    pub(super) tasks: HashMap<u64, TaskInfo>,
}

/// A task under way.
#[derive(Clone, Debug)]
pub(super) struct TaskInfo {
    pub(super) id: QueueId,
    pub(super) dest: DestId,
    /// Places of the recipients.
    pub(super) indexes: Vec<u32>,
    pub(super) octets: usize,
    /// On the steady clock.
    pub(super) begun: u64,
}

impl Agent {
    pub(super) fn new(lane: Lane, name: String, max_tasks: usize, max_octets: usize) -> Self {
        Self {
            lane,
            name,
            max_tasks,
            max_octets: max_octets.max(CHUNK_SIZE),
            octets: 0,
            reserved: 0,
            tasks: HashMap::new(),
        }
    }

    fn has_room(&self) -> bool {
        let tasks = self.tasks.len() + self.reserved;
        tasks < self.max_tasks && self.octets + CHUNK_SIZE <= self.max_octets
    }

    pub(super) fn reserve(&mut self, octets: usize) {
        self.reserved += 1;
        self.octets += octets;
    }

    pub(super) fn release(&mut self, octets: usize) {
        self.reserved = self.reserved.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }

    pub(super) fn begin(&mut self, task: u64, info: TaskInfo) {
        self.octets += info.octets;
        self.tasks.insert(task, info);
    }

    pub(super) fn end(&mut self, task: u64) -> Option<TaskInfo> {
        let info = self.tasks.remove(&task)?;
        self.octets = self.octets.saturating_sub(info.octets);
        Some(info)
    }
}

/// All agents, and who is next in each lane.
#[derive(Debug, Default)]
pub(super) struct Agents {
    agents: HashMap<AgentId, Agent>,
    lines: HashMap<Lane, VecDeque<AgentId>>,
}

impl Agents {
    pub(super) fn insert(&mut self, id: AgentId, agent: Agent) {
        self.lines.entry(agent.lane).or_default().push_back(id);
        self.agents.insert(id, agent);
    }

    pub(super) fn remove(&mut self, id: AgentId) -> Option<Agent> {
        let agent = self.agents.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&agent.lane) {
            line.retain(|other| *other != id);
        }
        Some(agent)
    }

    pub(super) fn agent(&mut self, id: AgentId) -> Option<&mut Agent> {
        self.agents.get_mut(&id)
    }

    /// Somebody with room, in turn.
    pub(super) fn pick(&mut self, lane: Lane) -> Option<AgentId> {
        let line = self.lines.get_mut(&lane)?;
        for _ in 0..line.len() {
            let id = line.pop_front()?;
            line.push_back(id);
            if self.agents.get(&id).is_some_and(Agent::has_room) {
                return Some(id);
            }
        }
        None
    }

    /// Somebody is there for the lane.
    pub(super) fn serve(&self, lane: Lane) -> bool {
        self.lines.get(&lane).is_some_and(|line| !line.is_empty())
    }

    /// Tasks under way with real agents.
    pub(super) fn tasks(&self) -> usize {
        let real = self.agents.values().filter(|a| a.lane != Lane::Router);
        real.map(|agent| agent.tasks.len()).sum()
    }
}
