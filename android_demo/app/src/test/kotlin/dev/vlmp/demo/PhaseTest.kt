package dev.vlmp.demo

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

class PhaseTest {
    @Test
    fun everyPhaseCanBeReachedAndLeft() {
        val reached = HashSet<Phase>()
        fun visit(phase: Phase) {
            if (reached.add(phase)) Phase.values().filter { phase.leadsTo(it) }.forEach { visit(it) }
        }
        visit(Phase.EMPTY)
        assertEquals(Phase.values().toSet(), reached)
        Phase.values().forEach { from -> assertTrue("$from", Phase.values().any { from.leadsTo(it) }) }
    }

    @Test
    fun nothingIsLoadedOrUnloadedWhileATaskRuns() {
        for (busy in Phase.values().filter { it.busy }) {
            assertFalse(busy.leadsTo(Phase.EMPTY))
            assertFalse(busy.leadsTo(Phase.LOADING))
        }
        assertFalse("an answer is not begun by an engine that is not there", Phase.EMPTY.leadsTo(Phase.ANSWERING))
        assertFalse("a stopped answer does not go on", Phase.STOPPING.leadsTo(Phase.ANSWERING))
    }
}
