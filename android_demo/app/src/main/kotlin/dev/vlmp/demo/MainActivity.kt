package dev.vlmp.demo

import android.app.Activity
class MainActivity : Activity()
class DemoApp : android.app.Application()
