package dev.vlmp.demo

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import android.os.PowerManager
import dev.vlmp.engine.Condition
import dev.vlmp.engine.Machine
import dev.vlmp.engine.Memory
import java.io.File

/** This phone. */
class Phone(private val context: Context) {
    fun machine() = Machine(
        name = "${Build.MANUFACTURER} ${Build.MODEL}",
        os = "Android ${Build.VERSION.RELEASE}",
        cpu = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else Build.HARDWARE,
        cores = Runtime.getRuntime().availableProcessors(),
        memoryMib = memoryInfo().totalMem / 1048576.0,
    )

    /** Bytes that can be taken before Android ends processes. */
    fun freeMemory(): Long = memoryInfo().let { it.availMem - it.threshold }

    /** Of this process. */
    fun memory() = Memory(status("VmRSS"), status("VmHWM"))

    /** How hot it is. Before Android 10 nothing tells it. */
    fun condition(): Condition {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return Condition()
        val power = checkNotNull(context.getSystemService(PowerManager::class.java))
        return Condition(WORDS.getOrNull(power.currentThermalStatus))
    }

    private fun memoryInfo() = ActivityManager.MemoryInfo().also {
        checkNotNull(context.getSystemService(ActivityManager::class.java)).getMemoryInfo(it)
    }

    private fun status(name: String): Double {
        val line = File("/proc/self/status").readLines().first { it.startsWith("$name:") }
        return line.filter { it.isDigit() }.toLong() / 1024.0
    }

    private companion object {
        /** Numbers 0 to 6 of PowerManager. */
        val WORDS = listOf("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
    }
}
