package dev.vlmp.demo

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import android.os.PowerManager
import java.io.File

/** This phone. */
class Phone(private val context: Context, override val runtimes: Map<String, String>) : Device {
    override val name = "${Build.MANUFACTURER} ${Build.MODEL}"
    override val os = "Android ${Build.VERSION.RELEASE}"
    override val cpu: String = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else Build.HARDWARE
    override val cores = Runtime.getRuntime().availableProcessors()
    override val memory get() = memoryInfo().totalMem / 1048576.0

    /** Bytes that can be taken before Android ends processes. */
    fun freeMemory(): Long = memoryInfo().let { it.availMem - it.threshold }

    override fun resident() = status("VmRSS")

    override fun peak() = status("VmHWM")

    override fun thermal(): String? {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) return null
        val power = checkNotNull(context.getSystemService(PowerManager::class.java))
        return WORDS.getOrNull(power.currentThermalStatus)
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
