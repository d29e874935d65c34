plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "dev.vlmp.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "dev.vlmp.demo"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk.abiFilters += listOf("arm64-v8a", "x86_64")
    }

    // The bundles that `make android-apk` exports. Tests run with Maven: they stand on Robolectric alone.
    sourceSets["main"].assets.srcDir("../../build/android/assets")
    sourceSets["debug"].manifest.srcFile("src/gradle/AndroidManifest.xml")
    sourceSets["release"].manifest.srcFile("src/gradle/AndroidManifest.xml")

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

kotlin {
    compilerOptions.jvmTarget.set(org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_1_8)
}

dependencies {
    implementation(project(":engine"))
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.29.0")
}
